"""A run as its metrics show it, for promtool: what a Prometheus would scrape of it every 30 seconds.

A test's script changes the run while time goes on. All that the rules read is served, so a script of trouble shows
which alerts it raises, and one without trouble that it raises none.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from trainer.elastic.reasons import Reason

TICK_SECONDS = 30
PHASES = ("waiting", "starting", "restoring", "training", "evaluating", "saving", "draining", "finished", "failed")
BUCKETS = ("init", "training", "checkpoint_restore", "wasted_progress", "infra_recovery")
GPUS = 16
STEP_SECONDS = 5.0
DOLLARS_PER_HOUR = 32.0

Samples = dict[str, list[float | None]]


@dataclass
class Run:
    """A run; scripts set its fields."""

    name: str = "demo"
    now: float = 0.0
    phase: str = "training"
    serving: bool = True
    """Whether the coordinator answers."""
    pod: int = 0
    """Which coordinator it is; a new one's counters begin at 0."""
    installed: bool = True
    stepping: bool = True
    """Whether a run in phase training makes steps."""
    attempt: int = 1
    steps: float = 0.0
    last_step: float | None = None
    speed: float = 100_000.0
    """Tokens per second."""
    slowest: float = 0.8
    """Seconds that the slowest rank takes for its own part of a step; the median is 0.75."""
    extra_loss: float = 0.0
    checkpoint_interval: float | None = 900.0
    saves_fail: bool = False
    last_checkpoint: float | None = None
    steps_saved: float = 0.0
    precision: str = "bf16"
    eta_seconds: float = 86_400.0
    tokens: float = 0.0
    nonfinite: int = 0
    failed_saves: int = 0
    restarts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(Reason, 0))
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(BUCKETS, 0.0))
    _saved_at: float = 0.0
    _since_save: float = 0.0
    _comes_up: list[tuple[float, str]] = field(default_factory=list)

    def restart(self, reason: Reason, *, seconds: float = 90.0) -> None:
        """The attempt ends; the next one makes its first step so many seconds later."""
        self.restarts[reason] += 1
        self.attempt += 1
        self.phase = "starting"
        self.seconds["wasted_progress"] += self._since_save
        self._since_save = 0.0
        self.steps = self.steps_saved
        self._comes_up = [(self.now + seconds / 2, "restoring"), (self.now + seconds, "training")]

    def new_coordinator(self) -> None:
        """Another pod serves from now on."""
        self.serving = True
        self.pod += 1
        self.tokens, self.nonfinite, self.failed_saves = 0.0, 0, 0
        self.restarts = dict.fromkeys(Reason, 0)

    def begin_anew(self) -> None:
        """As on the first day."""
        self.new_coordinator()
        self.installed, self.attempt, self.steps, self.steps_saved = True, 1, 0.0, 0.0
        self.last_step = self.last_checkpoint = None
        self.seconds = dict.fromkeys(BUCKETS, 0.0)

    def wait(self) -> None:
        """Its workers are gone: suspended, or without nodes."""
        self.phase = "waiting"
        self._comes_up = []

    def tick(self) -> None:
        """What happens until the next scrape."""
        self.now += TICK_SECONDS
        while self._comes_up and self._comes_up[0][0] <= self.now:
            self.phase = self._comes_up.pop(0)[1]
        if self.phase == "training" and self.stepping:
            self.steps += TICK_SECONDS / STEP_SECONDS
            self.tokens += self.speed * TICK_SECONDS
            self.last_step = self.now
            self._since_save += TICK_SECONDS
            if self.now - self._saved_at >= (self.checkpoint_interval or 900.0):
                self._save()
        elif self.phase in ("starting", "restoring"):
            self.seconds["checkpoint_restore" if self.attempt > 1 else "init"] += TICK_SECONDS
        elif self.phase == "waiting":
            self.seconds["infra_recovery"] += TICK_SECONDS

    def _save(self) -> None:
        self._saved_at = self.now
        if self.saves_fail:
            self.failed_saves += 1
            return
        self.last_checkpoint, self.steps_saved = self.now, self.steps
        self.seconds["training"] += self._since_save
        self._since_save = 0.0

    def scrape(self) -> dict[str, float]:
        """Series -> value; what Kubernetes says of it included."""
        found: dict[str, float] = {}
        if self.installed:
            deployment = f'namespace="team", deployment="{self.name}-coordinator"'
            found[f"kube_deployment_spec_replicas{{{deployment}}}"] = 1
        if self.serving and self.installed:
            found |= {self._series(metric): value for metric, value in self._metrics().items() if value is not None}
        return found

    def _metrics(self) -> dict[str, float | None]:
        loss = 2.5 + 8.5 * math.exp(-self.steps / 150) + 0.02 * math.sin(self.steps) + self.extra_loss
        spent = sum(self.seconds.values()) / 3600 * DOLLARS_PER_HOUR
        return {
            **{f"trainer_phase phase={phase}": float(phase == self.phase) for phase in PHASES},
            **{f"trainer_restarts_total reason={reason}": count for reason, count in self.restarts.items()},
            **{f"trainer_goodput_seconds_total bucket={name}": value for name, value in self.seconds.items()},
            **{f"trainer_gpu_seconds_total bucket={name}": GPUS * value for name, value in self.seconds.items()},
            "trainer_rank_step_seconds stat=median": 0.75,
            "trainer_rank_step_seconds stat=max": self.slowest,
            "trainer_run_cost currency=USD": spent,
            "trainer_run_cost_lost currency=USD": self.seconds["wasted_progress"] / 3600 * DOLLARS_PER_HOUR,
            "trainer_run_cost_remaining currency=USD": 1000.0,
            f"trainer_run_info precision={self.precision}": 1,
            "trainer_attempt": self.attempt,
            "trainer_loss": loss,
            "trainer_tokens_per_second": self.speed if self.phase in ("training", "evaluating", "saving") else 0.0,
            "trainer_tokens_total": self.tokens,
            "trainer_run_steps": self.steps,
            "trainer_last_step_timestamp_seconds": self.last_step,
            "trainer_checkpoint_last_timestamp_seconds": self.last_checkpoint,
            "trainer_checkpoint_interval_seconds": self.checkpoint_interval,
            "trainer_nonfinite_steps_total": self.nonfinite,
            "trainer_checkpoint_failures_total": self.failed_saves,
            "trainer_eta_timestamp_seconds": self.now + self.eta_seconds,
        }

    def _series(self, metric: str) -> str:
        name, *labels = metric.split()
        pairs = [label.split("=") for label in labels]
        pairs += [("run", self.name), ("namespace", "team"), ("pod", f"{self.name}-coordinator-{self.pod}")]
        return name + "{" + ", ".join(f'{key}="{value}"' for key, value in pairs) + "}"


Script = Callable[[Run, float], None]


def simulate(minutes: float, script: Script | None = None, **changes: object) -> Samples:
    """Series -> a value for each scrape, None where there was none. The script is called before each, with minutes."""
    run = Run(**changes)  # type: ignore[arg-type]  # fields of every type, given by tests
    scrapes = []
    for tick in range(int(minutes * 60 / TICK_SECONDS)):
        if script is not None:
            script(run, tick * TICK_SECONDS / 60)
        scrapes.append(run.scrape())
        run.tick()
    names = sorted({name for scrape in scrapes for name in scrape})
    return {name: [scrape.get(name) for scrape in scrapes] for name in names}


def at(minute: float, change: Callable[[Run], object]) -> Script:
    """A script that does one thing once."""

    def once(run: Run, now: float) -> None:
        if now == minute:
            change(run)

    return once


def script(*parts: Script) -> Script:
    """All of them."""

    def together(run: Run, now: float) -> None:
        for part in parts:
            part(run, now)

    return together
