"""EleutherAI's harness on an export, with the task file of docs/evaluation.md and no network."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.training import ENVIRONMENT, ROOT, Training
from trainer.evaluate.evaluation import evaluate_model
from trainer.evaluate.export import ExportRequest, run_export
from trainer.evaluate.pretrained import load_pretrained
from trainer.evaluate.result import Request


@pytest.mark.slow
def test_its_accuracy_over_the_same_items_is_ours(trained: Training, items: Path, tmp_path: Path) -> None:
    pytest.importorskip("lm_eval", reason="lm-evaluation-harness is not installed: pip install 'gpt-run[harness]'")
    page = (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8")
    (task,) = re.findall(r"(?s)```text\n(task: mine\n.*?)```", page)
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "mine.yaml").write_text(task)
    shutil.copy(items, tmp_path / "items.jsonl")
    run_export(ExportRequest(str(trained.run), tmp_path / "model"))

    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")}
    model = ("--model", "hf", "--model_args", "pretrained=model,dtype=float32", "--device", "cpu")
    tasks = ("--include_path", "tasks", "--tasks", "mine", "--output_path", "results")
    result = subprocess.run(
        [sys.executable, "-m", "lm_eval", "run", *model, *tasks],
        cwd=tmp_path,
        env=os.environ | ENVIRONMENT | offline,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    (file,) = (tmp_path / "results").rglob("results_*.json")
    theirs = json.loads(file.read_text())["results"]["mine"]

    ours = evaluate_model(load_pretrained(str(tmp_path / "model")), Request(hellaswag=str(items)), lambda *_: None)
    assert ours.hellaswag is not None
    assert theirs["acc,none"] == pytest.approx(ours.hellaswag.acc, abs=1e-9)
