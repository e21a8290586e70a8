"""One small prepared set and one warm process per session; a fresh folder with a run file per test."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.integration.servers import free_port
from tests.integration.training import ENVIRONMENT, WAIT_SECONDS, Training, sets

MakeTraining = Callable[..., Training]


@dataclass(frozen=True)
class Ended:
    """How a command ended: the ranks of a worker, or one process."""

    codes: list[int]
    texts: list[str]
    """What each process printed, on both streams."""

    @property
    def code(self) -> int:
        """The one exit code of all ranks."""
        assert len(set(self.codes)) == 1, f"{self.codes}\n" + "\n".join(self.texts)
        return self.codes[0]

    @property
    def text(self) -> str:
        """What rank 0 printed."""
        return self.texts[0]

    def refused(self, *parts: str) -> None:
        """Assert that this was a complaint about the user's input which contains the parts."""
        assert self.code == 2, f"{self.codes}\n" + "\n".join(self.texts)
        assert "Traceback" not in self.text
        for part in ("error: ", "expected: ", "to do: ", *parts):
            assert part in self.text, f"{part!r} is not in:\n{self.text}"


class Job:
    """One process that the warm one has forked."""

    def __init__(self, warm: Warm, number: int, output: Path) -> None:
        self.warm = warm
        self.output = output
        self._number = number

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.warm.answer(self._number, "pid")

    @property
    def text(self) -> str:
        """What it has printed until now."""
        return self.output.read_text(errors="replace")

    def wait(self) -> int:
        """Its exit code, once it has ended."""
        return self.warm.answer(self._number, "code")

    def wait_for(self, pattern: str) -> None:
        """Wait until the output matches."""
        deadline = time.monotonic() + WAIT_SECONDS
        while not re.search(pattern, self.text, re.MULTILINE):
            assert time.monotonic() < deadline, f"no {pattern!r} in {WAIT_SECONDS} s:\n{self.text}"
            time.sleep(0.01)


class Warm:
    """Runs `gpt-run` in forks of a process that has everything imported."""

    def __init__(self, log: Path) -> None:
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("warm.py"))],
                env=os.environ | ENVIRONMENT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        self._log = log
        self._jobs = 0
        self._answers: dict[int, dict[str, int]] = {}
        self._read()

    def start(self, training: Training, *arguments: str, environment: Mapping[str, str] | None = None) -> Job:
        """A command, started."""
        output = training.folder / f"job-{self._jobs}.txt"
        output.touch()
        job = {
            "id": self._jobs,
            "arguments": arguments,
            "folder": str(training.folder),
            "environment": dict(environment or {}),
            "output": str(output),
        }
        self._jobs += 1
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return Job(self, job["id"], output)

    def command(self, training: Training, *arguments: str, environment: Mapping[str, str] | None = None) -> Ended:
        """A command, to its end."""
        job = self.start(training, *arguments, environment=environment)
        return Ended([job.wait()], [job.text])

    def workers(
        self, training: Training, *overrides: str, ranks: int = 1, environment: Mapping[str, str] | None = None
    ) -> list[Job]:
        """`gpt-run worker run.yaml` on that many ranks, started."""
        world = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(ranks)}
        arguments = ["worker", "run.yaml", *sets(overrides)]
        return [
            self.start(
                training,
                *arguments,
                environment={
                    **world,
                    "RANK": str(rank),
                    "LOCAL_RANK": str(rank),
                    "LOCAL_WORLD_SIZE": str(ranks),
                    **(environment or {}),
                },
            )
            for rank in range(ranks)
        ]

    def worker(
        self, training: Training, *overrides: str, ranks: int = 1, environment: Mapping[str, str] | None = None
    ) -> Ended:
        """`gpt-run worker run.yaml` on that many ranks, to their ends."""
        jobs = self.workers(training, *overrides, ranks=ranks, environment=environment)
        return Ended([job.wait() for job in jobs], [job.text for job in jobs])

    def answer(self, number: int, key: str) -> int:
        """The pid or the exit code of a job, once it is there."""
        while key not in self._answers.get(number, {}):
            answer = self._read()
            self._answers.setdefault(answer.pop("id"), {}).update(answer)
        return self._answers[number][key]

    def close(self) -> None:
        """End the process."""
        self._process.communicate()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the warm process has ended:\n{self._log.read_text()}"
        answer: dict[str, Any] = json.loads(line)
        return answer


@pytest.fixture(scope="session")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warm]:
    """The warm process."""
    process = Warm(tmp_path_factory.mktemp("warm") / "log.txt")
    yield process
    process.close()


@pytest.fixture
def make_training(tmp_path: Path, dataset: Path) -> Iterator[MakeTraining]:
    """Make a folder with a run file; keyword arguments change the file."""
    made: list[Training] = []

    def make(**changes: Any) -> Training:
        made.append(Training(tmp_path / str(len(made)), dataset, changes))
        return made[-1]

    yield make
    for training in made:
        training.end()


@pytest.fixture
def training(make_training: MakeTraining) -> Training:
    """A folder with the run file as it is."""
    return make_training()
