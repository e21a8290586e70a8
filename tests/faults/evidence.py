"""Gathers what a run left: its store, its lines, its outputs. Reads files alone, and none of the trainer's own code."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from tests.faults.checks import Claim, Evidence, Exit
from tests.faults.drive import Driven
from tests.faults.observe import Observed
from tests.faults.plan import Plan
from tests.faults.where import Alone, Stage


def gather(plan: Plan, stage: Stage, driven: Driven, observed: Observed, alone: Alone) -> Evidence:
    """The evidence of one run, which is over or was given up."""
    left = stage.left_behind()
    run = stage.training.run
    markers = sorted(run.glob("checkpoints/*/COMMITTED.json"))
    return Evidence(
        plan=plan,
        alone=alone.steps,
        printed=tuple(observed.steps),
        lines=tuple(record for record in stage.training.records() if "batch_sha256" in record),
        accounts=tuple(_lines(run, "performance")),
        claims=tuple(_claims(run)),
        said_saved=tuple(observed.saved),
        committed_at={marker.parent.name: marker.stat().st_mtime for marker in markers},
        unsound={marker.parent.name: why for marker in markers if (why := _unsound(marker))},
        flipped=stage.flipped,
        started_from_nothing=observed.started_from_nothing,
        exits=tuple(Exit(one.popen.poll(), one.text) for one in stage.training.processes),
        ended=driven.ended,
        why_not=driven.why_not,
        left=tuple(left),
    )


def _claims(run: Path) -> list[Claim]:
    found = []
    for path in sorted((run / "attempts").glob("a*.json")):
        claim = json.loads(path.read_text())
        end = claim["previous_end"] or {}
        at = path.stat().st_mtime
        found.append(Claim(claim["attempt"], claim["base_checkpoint"], end.get("reason"), at, end.get("message", "")))
    return found


def _lines(run: Path, kind: str) -> list[dict[str, object]]:
    found = []
    for path in sorted(run.glob(f"logs/*/{kind}-*.jsonl")):
        for line in path.read_text().splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:  # a machine lost its power while it wrote
                continue
    return found


def _unsound(marker: Path) -> str | None:
    """Why a checkpoint is not what its marker says; None if it is."""
    try:
        files = json.loads(marker.read_text())["files"]
    except ValueError:
        return "its marker is no JSON"
    for name, entry in files.items():
        path = marker.parent / name
        if not path.is_file():
            return f"{name} is missing"
        if hashlib.sha256(path.read_bytes()).hexdigest() != entry["sha256"]:
            return f"{name} is not what was committed"
    return None
