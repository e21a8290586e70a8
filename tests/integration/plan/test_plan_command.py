"""`gpt-run plan` as a user calls it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest


def plan(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "trainer", "plan", *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )


def test_json_of_a_reference_run_and_its_claims() -> None:
    result = plan("gpt-1b-h100", "--gpu", "h100", "--gpus", "8", "--claims", "gpt-1b-h100", "--json")
    assert result.returncode == 0, result.stderr
    document = json.loads(result.stdout)
    assert document["parameters"] == 759_905_280
    assert document["hours"] > 0
    assert document["cost"] > 0
    assert {"parameters", "tokens", "dataset_gb"} <= {found["name"] for found in document["contradictions"]}


def test_the_table_names_what_it_assumes_without_torch() -> None:
    code = "import sys; from trainer.__main__ import main; sys.argv = ['gpt-run', 'plan', 'gpt2-124m']\n"
    code += "try:\n    main()\nfinally:\n    assert 'torch' not in sys.modules, 'slow to start'"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    for words in ("assumed", "124,439,808", "fits", "MFU", "compute-optimal", "Advice"):
        assert words in result.stdout


def test_a_run_that_does_not_fit_exits_with_2_and_still_shows_the_plan() -> None:
    result = plan("neox-1.4b", "--gpu", "l4", "--gpus", "1", "--json")
    assert result.returncode == 2
    assert "more than it has" in result.stderr
    assert "helps most" in result.stderr
    assert json.loads(result.stdout)["memory_bytes"]["weights"] == 4 * 1_414_455_296


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("gpt2-124m", "--gpu", "h1000"), "h100-sxm"),
        (("gpt2-124m", "--gpus", "1024"), "batch.sequences 512"),
        (("gpt2-124m", "--gpu", "h100", "--gpus", "12"), "--gpus-per-node"),
        (("gpt2-124m", "--dataset-tokens", "many"), "--dataset-tokens many"),
        (("gpt2-124m", "--dataset-tokens", "1e308", "--set", "epochs=2"), "--dataset-tokens 1e308"),
        (("gpt2-124m", "--claim", "speed=4"), "unknown key"),
        (("gpt2-124m", "--measured", "nowhere/run"), "nowhere"),
        (("no-such-run",), "neither a file nor a preset"),
    ],
)
def test_bad_input_exits_with_2(arguments: tuple[str, ...], said: str) -> None:
    result = plan(*arguments)
    assert result.returncode == 2, result.stderr
    assert said in result.stderr
    assert "Traceback" not in result.stderr


def test_search_proposes_what_fits() -> None:
    result = plan("neox-1.4b", "--gpu", "h100", "--gpus", "4", "--search", "cheapest", "--json")
    assert result.returncode == 0, result.stderr
    proposals = json.loads(result.stdout)["search"]
    costs = [proposal["cost"] for proposal in proposals]
    assert costs == sorted(costs)
    assert {proposal["gpus"] for proposal in proposals} <= {1, 2, 4}


def test_a_prepared_set_tells_the_length_of_epochs(tmp_path: Path) -> None:
    np.zeros(1_000_001, dtype=np.uint16).tofile(tmp_path / "train.bin")
    settings = ("--set", f"data.train={tmp_path}/train.bin", "--set", "epochs=2", "--set", "evaluate.every_steps=0")
    result = plan("tiny-gpt2", "--gpu", "l4", "--gpus", "1", *settings, "--json")
    assert result.returncode == 0, result.stderr
    document = json.loads(result.stdout)
    # Two epochs of 3906 sequences in batches of 16.
    assert document["hours"] * 3600 * document["tokens_per_second"] == pytest.approx(488 * 16 * 256, rel=0.01)


def test_a_measured_run_replaces_the_estimate(tmp_path: Path) -> None:
    logs = tmp_path / "runs" / "before" / "logs" / "a0001"
    logs.mkdir(parents=True)
    line = {"loss": 3.0, "step_seconds": 1.0, "tokens_per_second": 4e5, "mfu_ratio": 0.25, "world_size": 4}
    lines = [
        {"time": f"2026-11-01T00:00:{step:02d}+00:00", "step": step, "tokens": step * 1000, "epoch": 0.1, **line}
        for step in range(1, 6)
    ]
    (logs / "training-000.jsonl").write_text("".join(json.dumps(each) + "\n" for each in lines))
    measured = ("--measured", str(tmp_path / "runs" / "before"))
    result = plan("gpt-1b-h100", "--gpu", "h100", "--gpus", "8", *measured, "--json")
    assert result.returncode == 0, result.stderr
    document = json.loads(result.stdout)
    mfu = document["tokens_per_second"] * document["flops_per_token"] / (8 * 989e12)
    assert mfu == pytest.approx(0.25)
