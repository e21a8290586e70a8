"""Steps to install: the commands of each project's own README from nothing to its first example, seconds, bytes."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.compare.measurement import OURS, Measurement, Part, Report
from benchmarks.compare.turns import complaint, in_turn
from benchmarks.environments import PeerMissing, install
from tests.cluster.tools import cache_root

ROOT = Path(__file__).parents[2]
ROUNDS = 2


@dataclass(frozen=True)
class Way:
    """What a README says."""

    commands: tuple[str, ...]
    """From an empty folder to the end of its first example; commands that only change the folder are left out."""
    requirements: tuple[str, ...]
    """What its own installation command installs."""


# Of the READMEs as they stand in late 2026. Accelerate's are its own and that of its examples, whose first is taken; it
# tells to install torch before.
WAYS = {
    OURS: Way(("git clone URL", "make run"), ("--editable", f"{ROOT}[dev]")),
    "nanoGPT": Way(
        (
            "git clone URL",
            "pip install torch numpy transformers datasets tiktoken wandb tqdm",
            "python data/shakespeare_char/prepare.py",
            "python train.py config/train_shakespeare_char.py --device=cpu ...",
            "python sample.py --out_dir=out-shakespeare-char --device=cpu",
        ),
        ("torch", "numpy", "transformers", "datasets", "tiktoken", "wandb", "tqdm"),
    ),
    "Accelerate": Way(
        (
            "git clone URL",
            "pip install torch",
            "pip install accelerate",
            "pip install datasets evaluate transformers",
            "accelerate launch --cpu examples/nlp_example.py",
        ),
        ("torch", "accelerate", "datasets", "evaluate", "transformers"),
    ),
}
# What training alone asks of ours: no tests, no linters, no clients of clusters.
TRAINING_ALONE = ("--editable", str(ROOT))


def measure(quick: bool) -> Report:
    """All sides take turns, after one installation each that fetches what is not in the installer's cache."""
    seconds: dict[str, list[float]] = {name: [] for name in WAYS}
    sizes: dict[str, float] = {}
    absent: dict[str, str] = {}
    # Beside the installer's cache, from which it links files.
    with tempfile.TemporaryDirectory(dir=cache_root()) as folder:
        for name, way in WAYS.items():
            try:
                installed(Path(folder) / "venv", way.requirements)
            except PeerMissing as error:
                absent[name] = complaint(error)
                continue
            sizes[name] = folder_bytes(Path(folder) / "venv") / 1e6
        for name in in_turn(list(sizes), 1 if quick else ROUNDS):
            seconds[name].append(installed(Path(folder) / "venv", WAYS[name].requirements))
        installed(Path(folder) / "venv", TRAINING_ALONE)
        alone = {**sizes, OURS: folder_bytes(Path(folder) / "venv") / 1e6}
    commands = {name: [float(len(WAYS[name].commands))] for name in sizes}
    return Report(
        [
            Measurement("commands from nothing to the end of the first example", "commands", False, commands, digits=0),
            Measurement(
                "installation, packages in the installer's cache",
                "s",
                False,
                {name: seconds[name] for name in sizes},
                digits=1,
            ),
            Measurement("installed", "MB", False, {name: [size] for name, size in sizes.items()}, digits=0),
            Measurement(
                "installed, of ours what training alone needs",
                "MB",
                False,
                {name: [size] for name, size in alone.items()},
                digits=0,
            ),
        ],
        absent,
    )


def installed(venv: Path, requirements: tuple[str, ...]) -> float:
    """Seconds of an installation into a new environment."""
    started = time.perf_counter()
    install(venv, ["--constraint", str(ROOT / "constraints.txt"), *requirements])
    return time.perf_counter() - started


def folder_bytes(folder: Path) -> int:
    """Of all files, as if none were shared with other environments."""
    return sum(path.lstat().st_size for path in folder.rglob("*"))


PART = Part(
    title="Installation",
    settings="Commands of each project's README: "
    + "; ".join(f"{name}: {', '.join(f'`{command}`' for command in way.commands)}" for name, way in WAYS.items())
    + ". All are installed by uv with the pins of constraints.txt, so that torch is the same, from its cache: what the "
    "network adds is left out. Ours is what `make run` installs, with all that tests, linters and clusters need.",
    measure=measure,
)
