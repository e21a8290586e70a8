"""Makes the values files: a preset's run on one kind of hardware each.

RUNS is the table of them. What a kind of node looks like is in HARDWARE, what a run computes in trainer/presets; a
values file leaves out only what nobody else can know, which is where the store and the data are.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from trainer.config_file import read_run_file
from trainer.yaml_dialect import dump_yaml

_GPU_TAINT = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]


@dataclass(frozen=True)
class Hardware:
    """A kind of node, by what one rank on it gets."""

    product: str
    """Label nvidia.com/gpu.product; empty for nodes without GPUs."""
    cpu: int
    """Cores of a rank."""
    memory_gib: int
    """Memory of a rank, GiB."""
    shm_gib: int = 4
    """Share of it that /dev/shm may take, GiB."""
    network: dict[str, str] = field(default_factory=lambda: {"NCCL_DEBUG": "WARN"})
    """Environment for NCCL."""


HARDWARE = {
    "h100": Hardware("NVIDIA-H100-80GB-HBM3", cpu=12, memory_gib=128),
    "h200": Hardware("NVIDIA-H200", cpu=12, memory_gib=160),
    "a100": Hardware("NVIDIA-A100-SXM4-80GB", cpu=10, memory_gib=100),
    "h20": Hardware("NVIDIA-H20", cpu=16, memory_gib=160),
    "l40s": Hardware("NVIDIA-L40S", cpu=8, memory_gib=64),
    "cpu": Hardware("", cpu=1, memory_gib=4, shm_gib=1, network={}),
    "cpu-server": Hardware("", cpu=22, memory_gib=112, shm_gib=8, network={}),
}


@dataclass(frozen=True)
class RunFile:
    """One values file."""

    name: str
    """The file is values-NAME.yaml."""
    hardware: str
    preset: str
    per_worker: int
    """GPUs of a worker; 0 for CPUs."""
    workers: tuple[int, int, int]
    """Fewest, first and most workers."""
    description: str
    more: dict[str, Any] = field(default_factory=dict)
    """Values that only this file has."""
    run: dict[str, Any] = field(default_factory=dict)
    """Keys of the run that differ from the preset's."""

    @property
    def file(self) -> str:
        """Name of the file."""
        return f"values-{self.name}.yaml"


# For a first look, on a volume instead of a bucket, with text that needs no download.
_FIRST_LOOK = {
    "store": {"url": "/store/runs", "volume": {"claimName": "gpt-run"}},
    "workers": {"ephemeralStorage": "4Gi"},
    "jobs": {"prepare": {"enabled": True, "resources": {"requests": {"cpu": 1}}}},
}

RUNS = [
    RunFile("h100", "h100", "gpt-1b-h100", 8, (1, 2, 4), "GPT-2 of 760M parameters on nodes of 8 H100, 1 to 4 of them"),
    RunFile("h200", "h200", "neox-1.4b-8gpu", 8, (1, 2, 4), "GPT-NeoX of 1.4B on nodes of 8 H200, 1 to 4 of them"),
    RunFile("a100", "a100", "gpt2-124m", 8, (1, 2, 4), "GPT-2 of 124M on nodes of 8 A100, 1 to 4 of them"),
    RunFile("h20", "h20", "llama-1.36b", 8, (1, 2, 4), "LLaMA of 1.3B on nodes of 8 H20, 1 to 4 of them"),
    RunFile(
        "l40s-ray", "l40s", "gpt2-124m", 4, (1, 2, 4),
        "GPT-2 of 124M under Ray on nodes of 4 L40S, 1 to 4 of them",
        more={"backend": "rayjob"},
        run={"batch": {"sequences": 512, "micro_sequences": 16}},
    ),
    RunFile(
        "cpu", "cpu", "tiny-gpt2", 0, (1, 2, 3),
        "GPT-2 of 1.9M on any nodes without GPUs, text from the image, everything on the volume claim `gpt-run`",
        more=_FIRST_LOOK,
        run={"data": {"train": "/store/data/python-library"}},
    ),
    RunFile(
        "gpt2-large", "cpu-server", "gpt2-large", 0, (1, 1, 1),
        "Reference run: GPT-2 Large of 774M on a CPU server of 24 cores and 128 GB",
    ),
    RunFile("gpt2-124m", "a100", "gpt2-124m", 4, (1, 1, 1), "Reference run: GPT-2 of 124M on four GPUs, here A100"),
    RunFile(
        "llama-1.36b", "h20", "llama-1.36b", 2, (1, 2, 2), "Reference run: LLaMA of 1.3B on two or four H20"
    ),
    RunFile("gpt2-1.36b", "h20", "gpt2-1.36b", 2, (1, 2, 2), "Reference run: GPT-2 of 1.4B on two or four H20"),
    RunFile(
        "gpt-1b-h100", "h100", "gpt-1b-h100", 8, (1, 1, 1),
        "Reference run: GPT-2 of 760M on one node of 8 H100",
        more={"gpu": {"pricePerHour": 0.99}},
    ),
    RunFile("neox-1.4b-test", "a100", "neox-1.4b-test", 1, (1, 1, 1), "Reference run: smoke test of GPT-NeoX, one GPU"),
    RunFile("neox-1.4b", "a100", "neox-1.4b", 1, (1, 2, 8), "Reference run: GPT-NeoX of 1.4B on one to eight GPUs"),
    RunFile("neox-1.4b-8gpu", "a100", "neox-1.4b-8gpu", 8, (1, 1, 1), "Reference run: GPT-NeoX of 1.4B on eight GPUs"),
]  # fmt: skip


def values_files() -> dict[str, str]:
    """File name -> text."""
    return {run.file: _text(run) for run in RUNS}


def _text(run: RunFile) -> str:
    name = run.name.replace(".", "-")
    lines = [f"# {run.description}.", f"# Generated from the preset {run.preset} by `make generate`."]
    command = f"#   helm install {name} charts/gpt-run -f charts/gpt-run/{run.file}"
    if "store" in run.more:
        lines += [command + " --timeout 15m"]
    else:
        lines += [
            f"{command} --timeout 15m \\",
            "#     --set store.url=s3://BUCKET/runs --set run.data.train=s3://BUCKET/FOLDER",
        ]
    return "\n".join(lines) + "\n" + dump_yaml(_merged(_values(run), run.more))


def _values(run: RunFile) -> dict[str, Any]:
    hardware = HARDWARE[run.hardware]
    ranks = run.per_worker or 1
    fewest, first, most = run.workers
    values: dict[str, Any] = {
        "workers": {
            "replicas": first,
            "min": fewest,
            "max": most,
            "resources": {"requests": {"cpu": hardware.cpu * ranks, "memory": f"{hardware.memory_gib * ranks}Gi"}},
            "shm": f"{hardware.shm_gib * ranks}Gi",
        },
        "gpu": {"product": hardware.product, "perWorker": run.per_worker} if run.per_worker else {"perWorker": None},
    }
    if run.per_worker:
        values["nodePool"] = {"tolerations": _GPU_TAINT}
    if hardware.network:
        values["network"] = {"env": [{"name": key, "value": value} for key, value in hardware.network.items()]}
    return {**values, "run": _run(run)}


def _run(run: RunFile) -> dict[str, Any]:
    """The preset's run without its name, which is the release's, and without its folder on a laptop."""
    raw = {key: value for key, value in read_run_file(run.preset).items() if key != "name"}
    raw["data"] = {key: value for key, value in raw["data"].items() if key != "train"}
    return _merged(raw, run.run)


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = _merged(result[key], value) if both else value
    return result
