"""Commands as forks of one process that has everything imported: real processes without the wait for torch."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.integration.servers import free_port
from tests.integration.training import ENVIRONMENT, Process, Training, sets


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


class Fork:
    """A process that the warm one has forked, as `subprocess.Popen` shows one."""

    def __init__(self, warm: Warm, number: int) -> None:
        self._warm = warm
        self._number = number

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._warm.answer(self._number, "pid")

    @property
    def returncode(self) -> int | None:
        """Its exit code, or minus the signal that ended it; None while it runs."""
        return self._warm.known(self._number, "code")

    def poll(self) -> int | None:
        """The same."""
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, once it has ended."""
        return self._warm.answer(self._number, "code", timeout)

    def terminate(self) -> None:
        """SIGTERM, unless it has ended."""
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL, unless it has ended."""
        self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


class Warm:
    """Runs `gpt-run` in forks of a process that has everything imported."""

    def __init__(self, log: Path, environment: Mapping[str, str] | None = None) -> None:
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("warm_server.py"))],
                env={**os.environ, **ENVIRONMENT, **(environment or {})},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        self._log = log
        self._jobs = 0
        self._answers: dict[int, dict[str, int]] = {}
        self._news = threading.Condition()
        self._ended = False
        self._ready = False
        self._reader = threading.Thread(target=self._read, name="warm", daemon=True)
        self._reader.start()
        with self._news:
            self._news.wait_for(lambda: self._ready or self._ended)

    @property
    def pid(self) -> int:
        """Process id of the warm process: whatever a command leaves behind is a child of it."""
        return self._process.pid

    def start(
        self,
        training: Training,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        network: str | None = None,
    ) -> Process:
        """A command, started; network: path of the network namespace that it is in."""
        output = training.folder / f"job-{self._jobs}.txt"
        output.touch()
        job = {
            "id": self._jobs,
            "arguments": arguments,
            "folder": str(training.folder),
            "environment": dict(environment or {}),
            "output": str(output),
            "network": network,
        }
        self._jobs += 1
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        process = Process(Fork(self, job["id"]), output, training.wait_seconds)
        training.processes.append(process)
        return process

    def command(self, training: Training, *arguments: str, environment: Mapping[str, str] | None = None) -> Ended:
        """A command, to its end."""
        job = self.start(training, *arguments, environment=environment)
        return Ended([job.wait()], [job.text])

    def workers(
        self, training: Training, *overrides: str, ranks: int = 1, environment: Mapping[str, str] | None = None
    ) -> list[Process]:
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

    def answer(self, number: int, key: str, timeout: float | None = None) -> int:
        """The pid or the exit code of a job, once it is there."""
        with self._news:
            there = self._news.wait_for(lambda: key in self._answers.get(number, {}) or self._ended, timeout)
            if key in self._answers.get(number, {}):
                return self._answers[number][key]
        if not there:
            raise subprocess.TimeoutExpired(f"job {number}", timeout or 0.0)
        raise AssertionError(f"the warm process has ended:\n{self._log.read_text()}")

    def known(self, number: int, key: str) -> int | None:
        """The same, if it is there."""
        with self._news:
            return self._answers.get(number, {}).get(key)

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _read(self) -> None:
        """The thread: take what the process answers."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            answer: dict[str, int] = json.loads(line)
            with self._news:
                if "id" in answer:
                    self._answers.setdefault(answer.pop("id"), {}).update(answer)
                else:
                    self._ready = True
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()
