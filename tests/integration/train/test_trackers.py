"""Real runs with trackers: killed and gone on with, and with servers that refuse or are not there."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util import tensor_util

from tests.integration.servers import Server, free_port
from tests.integration.train.conftest import MakeTraining, Warm
from tests.integration.training import Training, wait_until
from tests.integration.wandb_files import messages, offline_files, rows
from trainer.checkpoint.store import open_store
from trainer.metrics.tensorboard import EventFiles

KEY = "0123456789" * 4
ALL = {
    "trackers": [{"type": "tensorboard"}, {"type": "wandb", "mode": "offline"}],
    "log": {"histograms_every_steps": 5},
    "evaluate": {
        "every_steps": 6,
        "sequences": 4,
        "samples": {"every_steps": 10, "prompts": ["def f(", ""], "max_tokens": 4},
    },
}


def shown(folder: Path) -> EventAccumulator:
    """What TensorBoard shows of a folder, all points."""
    read = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0, "histograms": 0})
    read.Reload()
    return read


def curve(read: EventAccumulator, tag: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in read.Scalars(tag)]


def single(values: dict[int, float]) -> list[tuple[int, float]]:
    """As TensorBoard has them: in single precision."""
    return [(step, pytest.approx(value, rel=1e-6)) for step, value in sorted(values.items())]


def lines_of(training: Training, kind: str) -> list[dict[str, Any]]:
    files = sorted(training.run.glob(f"logs/*/{kind}-000.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def values_of(training: Training, kind: str, key: str) -> dict[int, Any]:
    """What the lines say, by step; of a step that was done twice, the later."""
    found = {line["step"]: line[key] for line in lines_of(training, kind) if key in line}
    return dict(sorted(found.items()))


@pytest.mark.slow
def test_a_run_that_is_killed_has_one_curve_everywhere(make_training: MakeTraining, tmp_path: Path) -> None:
    training = make_training(**ALL, steps=5000, checkpoint={"every_steps": 20})
    process = training.train(nproc=2)
    process.wait_for("^saved step-00000020")
    wait_until(lambda: any(rows(file) for file in offline_files(training.run / "logs")))
    process.workers()[0].kill()
    process.wait_for("^going on from")
    wait_until(lambda: sum(bool(rows(file)) for file in offline_files(training.run / "logs")) == 2)
    process.popen.terminate()
    assert process.wait() == 75, process.text
    losses = {step: loss for step, (loss, _) in training.steps().items()}
    assert list(losses) == list(range(1, len(losses) + 1))

    # The files in the store, and those that are made of the lines.
    made = EventFiles(open_store(str(training.run)), tmp_path / "made")
    made.update()
    for read in (shown(training.run / "logs/tensorboard"), shown(tmp_path / "made")):
        assert curve(read, "train/loss") == single(losses)
        assert curve(read, "validation/loss") == single(values_of(training, "training", "validation_loss"))
        for tag in ("parameters/embed", "gradients/blocks.01.attention"):
            assert [event.step for event in read.Histograms(tag)] == [*values_of(training, "histograms", "time")]
        # The reader at hand drops no texts after a restart; those that show them do.
        texts = read.Tensors("samples/1")
        assert sorted({event.step for event in texts}) == [*values_of(training, "samples", "time")]
        assert all(b"    def f(" in tensor_util.make_ndarray(event.tensor_proto).item() for event in texts)
        assert "_hparams_/session_start_info" in read.Tags()["tensors"]

    # All values of a module are in the counts, whatever the number of ranks that hold them.
    for what in ("parameters", "gradients"):
        found = values_of(training, "histograms", what)
        assert {sum(modules["embed"]["counts"]) for modules in found.values()} == {512 * 48}
    assert {line["prompt"] for line in lines_of(training, "samples")} == {"def f(", ""}

    first, second = offline_files(training.run / "logs")
    ids = {message.run.run_id for file in (first, second) for message in messages(file) if message.HasField("run")}
    assert ids == {json.loads((training.run / "logs/wandb.json").read_text())["id"]}
    steps = [*rows(first), *rows(second)]
    assert steps == sorted(set(steps))
    logged = {step: row["train/loss"] for file in (first, second) for step, row in rows(file).items()}
    assert logged == {step: losses[step] for step in logged}


def test_trackers_and_samples_do_not_change_a_run(make_training: MakeTraining, warm: Warm) -> None:
    alone, training = make_training(model={"dropout": 0.1}), make_training(**ALL, model={"dropout": 0.1})
    assert warm.worker(alone, ranks=2).code == 0
    assert warm.worker(training, "trackers=[{type: tensorboard}]", ranks=2).code == 0
    assert training.steps() == alone.steps()


def test_event_files_in_a_bucket(
    make_training: MakeTraining,
    start_server: Callable[[str], Server],
    warm: Warm,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = start_server("s3")
    training = make_training(
        steps=8, trackers=[{"type": "tensorboard"}], checkpoint={"store": f"{server.url}/events", "every_steps": 4}
    )
    for overrides in (["steps=6"], []):
        ended = warm.worker(training, *overrides, environment=server.environment)
        assert ended.code == 0, ended.text
        assert "WARNING" not in ended.text
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    store = open_store(f"{server.url}/events/small")
    found = store.find("logs/tensorboard")
    for path in found:
        (tmp_path / path.rpartition("/")[2]).write_bytes(store.read_bytes(path))
    assert {path[-13:-7] for path in found} == {".a0001", ".a0002"}
    steps = [step for step, _ in curve(shown(tmp_path), "train/loss")]
    assert steps == list(range(1, 9))


class Refusing(http.server.BaseHTTPRequestHandler):
    """Answers every request as a server does that does not know the key."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b'{"errors": [{"message": "user is not logged in"}]}'
        self.send_response(401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST  # noqa: N815  # the name that the base class looks for

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture
def refusing_port() -> Iterator[int]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.slow
@pytest.mark.parametrize("server", ["refusing", "away"])
def test_a_wandb_server_that_does_not_work_ends_no_run(training: Training, refusing_port: int, server: str) -> None:
    port = refusing_port if server == "refusing" else free_port()
    environment = {"WANDB_API_KEY": KEY, "WANDB_BASE_URL": f"http://127.0.0.1:{port}"}
    overrides = ["trackers=[{type: tensorboard}, {type: wandb}]", "steps=200"]
    process = training.train(*overrides, environment=environment)
    assert process.wait() == 0, process.text
    assert "WARNING tracker wandb: " in process.text
    assert server == "away" or "user is not logged in" in process.text
    assert KEY not in process.text
    # The other tracker and the lines are whole.
    assert len(training.steps()) == 200
    assert len(curve(shown(training.run / "logs/tensorboard"), "train/loss")) == 200
    for earlier, later in pairwise(training.step_times()):
        assert later[2] - earlier[2] < 5, "training has waited"


def test_a_key_that_is_missing_is_named(training: Training, warm: Warm) -> None:
    ended = warm.worker(training, "trackers=[{type: wandb}]", "steps=4", environment={"WANDB_API_KEY": ""})
    assert ended.code == 0, ended.text
    assert "WARNING tracker wandb: " in ended.text
    assert "WANDB_API_KEY is not set" in ended.text


def test_samples_without_a_tokenizer_are_refused(training: Training, warm: Warm, tmp_path: Path) -> None:
    (tmp_path / "tokens.bin").write_bytes(bytes(20_000))
    ended = warm.worker(training, f"data.train={tmp_path / 'tokens.bin'}", "evaluate.samples.every_steps=5")
    ended.refused("evaluate.samples: no tokenizer lies beside the training data")
