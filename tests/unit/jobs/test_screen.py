"""A /status document as a screen of text, and what it finds wrong."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.jobs.documents import DOCUMENT, MEMBER, NOW
from trainer.elastic.rounds import Seen, Wait
from trainer.elastic.status import RunStatus
from trainer.jobs.health import complaints
from trainer.jobs.screen import status_screen


def test_the_screen_answers_what_somebody_asks() -> None:
    lines = status_screen(DOCUMENT, NOW)
    assert len(lines) <= 20
    rows = dict(line.split(maxsplit=1) for line in lines)
    assert rows["health"] == "ok"
    assert rows["phase"] == "training (attempt a0004, round 3)"
    assert rows["step"].startswith("120 of 1000 (12.0%) ████░")
    assert rows["step"].endswith("1.2M tokens, the last 12s ago")
    assert rows["loss"] == "3.2141, validation 3.3000"
    assert rows["speed"] == "12.3k tokens/s, MFU 41.0%"
    assert rows["ends"] == "in 1h02m (2026-01-01T13:02:00+00:00)"
    assert rows["cost"] == (
        "3.10 EUR, 0.25 of it lost to faults, 12.00 to come, 15.10 in all, 41.00 per billion tokens"
    )
    assert rows["checkpoint"].startswith("s3://b, 3m00s ago")
    assert rows["goodput"].startswith("90.0% of 16m40s")
    assert "training 90.0% (15m00s), other 10.0% (1m40s)" in "\n".join(lines)
    assert rows["restarts"] == "3: 2 Preempted, 1 Scaled"
    assert rows["workers"] == "16 on 1 machines, 1 to 4 may take part"
    assert rows["gpt2-worker-0:"] == "8 workers, step 120, rank 0 first, seen 0s ago"
    assert rows["last"] == r"error   exit 1, WorkerFailed: error: rank 1 died\x1b[31m"


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"phase": "failed"}, ["it has failed"]),
        ({"phase": "finished", "members": []}, []),
        ({"phase": "waiting", "world_size": 0, "nodes": {"min": 2, "max": 4}}, ["1 machines are here, 2 are needed"]),
        ({"last_progress_time": "2026-01-01T11:50:00+00:00"}, ["no step for 10m00s"]),
        ({"last_progress_time": "2026-01-01T11:50:00+00:00", "phase": "restoring"}, []),
        ({"loss": float("nan")}, ["the loss is not a number"]),
        ({"members": [{**MEMBER, "last_seen_seconds": 12}]}, ["gpt2-worker-0 is silent for 12s"]),
        ({"members": [{**MEMBER, "step": 100}]}, ["gpt2-worker-0 is at step 100, 20 behind"]),
        ({"members": [{**MEMBER, "step": 119}]}, []),
        ({"members": [{**MEMBER, "rank": None}]}, ["gpt2-worker-0 waits for the next round"]),
        ({"members": [{**MEMBER, "rank": None}], "phase": "starting"}, []),
    ],
)
def test_what_is_wrong(changes: dict[str, Any], found: list[str]) -> None:
    assert complaints({**DOCUMENT, **changes}, NOW) == found


def test_of_many_machines_those_with_trouble_are_shown() -> None:
    members = [{**MEMBER, "host": f"w{i}", "last_seen_seconds": 9 if i % 100 == 50 else 0} for i in range(1000)]
    lines = status_screen({**DOCUMENT, "members": members}, NOW)
    assert len(lines) <= 28
    assert sum("<- is silent for 9s" in line for line in lines) == 8
    assert lines[-2].strip() == "and 992 more, 2 of them slow or missing"


def test_the_document_of_a_coordinator_that_just_started() -> None:
    status = RunStatus()
    status.look_at("gpt2", Seen(hold_until=0.0), Wait("nobody is here"), now=0.0)
    rows = status_screen(status.document(), NOW)
    assert [row.split()[0] for row in rows] == ["run", "phase", "health", "workers"]


@given(st.data())
def test_fields_that_are_missing_or_of_another_type_do_no_harm(data: st.DataObject) -> None:
    odd = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.text()) | st.just({})
    odd |= st.dictionaries(st.sampled_from(["min", "time", "url", "spent", "training", "message"]), odd, max_size=3)
    dropped = data.draw(st.sets(st.sampled_from(sorted(DOCUMENT))))
    strange = data.draw(st.dictionaries(st.sampled_from(sorted({*DOCUMENT} - {"phase"})), odd, max_size=5))
    document = {key: value for key, value in DOCUMENT.items() if key not in dropped} | {"phase": "training"} | strange
    lines = status_screen(document, NOW)
    assert any(line.startswith("phase        training") for line in lines)
