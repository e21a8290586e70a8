"""The walk-throughs of docs/runs: every command runs as it is written, and their overlays change sizes alone."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from trainer.config_file import load_run_config, preset_names
from trainer.data.prepare import load_pipeline

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "runs"
# What a page leaves behind: its runs with the step or epoch at which they end, and its exported models.
PAGES: dict[str, tuple[dict[str, tuple[str, int]], tuple[str, ...]]] = {
    "gpt2-large": ({"gpt2-large": ("epoch", 2)}, ("gpt2-large",)),
    "gpt2-124m": ({"gpt2-124m": ("step", 150)}, ("gpt2-124m",)),
    "llama-gpt2": (
        {"smoke": ("step", 10), "llama-1-36b": ("epoch", 1), "gpt2-1-36b": ("epoch", 1)},
        ("llama-1-36b", "gpt2-1-36b"),
    ),
    "gpt-1b-h100": ({}, ("gpt-1b-h100",)),  # its runs are in a bucket that ends with the page
    "neox-1.4b": (
        {"neox-1-4b-test": ("step", 40), "neox-1-4b": ("step", 80), "neox-1-4b-8gpu": ("step", 80)},
        ("neox-1-4b",),
    ),
}
# What a small size may change: how much, how often, how large, and where text comes from.
SIZES = {
    "steps", "epochs", "sequence_length", "model.vocab_size", "model.context", "model.layers", "model.width",
    "model.heads", "model.ffn_width", "batch.sequences", "batch.micro_sequences", "data.workers", "optimizer.lr",
    "schedule.warmup_steps", "checkpoint.every_steps", "evaluate.every_steps", "evaluate.sequences", "log.every_steps",
    "log.histograms_every_steps", "parallel.compile",
}  # fmt: skip
DATA_SIZES = {"sources", "validation_fraction", "shard_tokens", "tokenizer"}


def commands(page: Path) -> str:
    """All ```sh blocks of a page, as one script."""
    return "\n".join(re.findall(r"(?s)```sh\n(.*?)```", page.read_text(encoding="utf-8")))


def run_script(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a script as a reader would, below the project's folder with `gpt-run` on the path; first failure ends it."""
    programs = folder / "programs"
    programs.mkdir()
    for name, arguments in (("gpt-run", " -m trainer"), ("python", "")):
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}"{arguments} "$@"\n')
        (programs / name).chmod(0o755)
    (folder / "docs").symlink_to(ROOT / "docs")
    environment = {
        **os.environ,
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "XDG_CACHE_HOME": str(folder / "cache"),
    }
    with subprocess.Popen(
        ["bash", "-euxo", "pipefail", "-c", script],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            output = process.communicate()[0]
        finally:
            # Servers that the page started, and whatever a failed command left.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    return subprocess.CompletedProcess(script, process.returncode, output)


def flat(value: Any, prefix: str = "") -> set[str]:
    """Dotted keys of a mapping's leaves."""
    if not isinstance(value, dict):
        return {prefix}
    return {name for key, item in value.items() for name in flat(item, f"{prefix}.{key}" if prefix else key)}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", PAGES)
def test_every_command_of_a_walk_through(name: str, tmp_path: Path) -> None:
    result = run_script(commands(FOLDER / f"{name}.md"), tmp_path)
    assert result.returncode == 0, result.stdout[-6000:]
    runs, exports = PAGES[name]
    for run, (unit, length) in runs.items():
        markers = (tmp_path / "runs" / run / "checkpoints").glob("*/COMMITTED.json")
        assert length <= max(json.loads(marker.read_text())[unit] for marker in markers) < length * 1.05, run
    for export in exports:
        assert (tmp_path / "exports" / export / "model.safetensors").stat().st_size > 0, export


def test_every_page_is_run() -> None:
    assert {page.stem for page in FOLDER.glob("*.md")} - {"README"} == set(PAGES)


@pytest.mark.parametrize("path", sorted((FOLDER / "small").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_small_run_changes_sizes_alone(path: Path) -> None:
    assert path.stem in preset_names()
    assert flat(YAML(typ="safe").load(path)) <= SIZES
    small, full = load_run_config(path.stem, [f"@{path}"]), load_run_config(path.stem)
    assert (small.name, small.data.train, small.precision) == (full.name, full.data.train, full.precision)
    # As many micro-batches a step, on one machine of two workers, as the run itself has at least.
    assert small.batch.sequences >= 2 * small.batch.micro_sequences


@pytest.mark.parametrize("path", sorted((FOLDER / "small" / "data").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_small_pipeline_changes_sizes_and_sources_alone(path: Path) -> None:
    assert set(YAML(typ="safe").load(path)) <= DATA_SIZES
    small, full = load_pipeline(path.stem, [f"@{path}"]), load_pipeline(path.stem)
    assert (small.name, small.output) == (full.name, full.output)
