"""The operator's own metrics, and the HTTP server of `/metrics` and `/healthz`."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Iterable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from operators.api import Phase, TrainingRun
from operators.caches import Caches
from operators.coordinators import Outcome
from trainer.addresses import EVERYWHERE, bound

_DECISION_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 1.0)
_LATENCY_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


class Metrics:
    """All of them, on a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.actions = Counter(
            "gptrun_operator_actions", "Things done to runs", ("action", "reason"), registry=self.registry
        )
        self.decision_seconds = Histogram(
            "gptrun_operator_decision_seconds",
            "Time that one decision takes",
            buckets=_DECISION_BUCKETS,
            registry=self.registry,
        )
        self.errors = Counter(
            "gptrun_operator_reconcile_errors", "Passes over a run that failed", registry=self.registry
        )
        self.leader = Gauge("gptrun_operator_leader", "1 if this replica acts", registry=self.registry)
        self.polls = Counter(
            "gptrun_operator_coordinator_polls", "Questions to coordinators", ("outcome",), registry=self.registry
        )
        self.latency = Histogram(
            "gptrun_operator_event_to_action_seconds",
            "From the event that made something necessary to its end",
            buckets=_LATENCY_BUCKETS,
            registry=self.registry,
        )
        self.status_writes = Counter(
            "gptrun_operator_status_writes", "Writes of runs' statuses", registry=self.registry
        )
        self.missing_fields = Gauge(
            "gptrun_operator_crd_missing_fields",
            "Fields that the cluster's CustomResourceDefinition lacks: it is older than this operator",
            registry=self.registry,
        )
        self.last_pass = Gauge(
            "gptrun_operator_last_pass_timestamp_seconds",
            "When this replica last looked at a run without failing, or had none to look at; at first its start",
            registry=self.registry,
        )
        self.last_pass.set_to_current_time()
        for outcome in Outcome:
            self.polls.labels(outcome.value)

    def follow(self, caches: Caches, leads: Callable[[], bool]) -> None:
        """Count runs by phase at each scrape; a replica that stands by counts none, so that sums are right."""
        self.registry.register(_Runs(caches, leads))


class _Runs(Collector):
    def __init__(self, caches: Caches, leads: Callable[[], bool]) -> None:
        self._caches = caches
        self._leads = leads

    def collect(self) -> Iterable[GaugeMetricFamily]:
        family = GaugeMetricFamily("gptrun_operator_runs", "TrainingRuns by phase", labels=["phase"])
        if self._leads():
            found = Tally(run.status.phase for run in self._caches.runs.values() if isinstance(run, TrainingRun))
            for phase in Phase:
                family.add_metric([phase.value], found[phase])
        yield family


async def serve(metrics: Metrics, port: int, healthy: Callable[[], bool]) -> tuple[web.AppRunner, int]:
    """Listen; the runner, to be cleaned up, and the port."""

    async def scrape(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def health(_: web.Request) -> web.Response:
        return web.Response(text="ok\n") if healthy() else web.Response(text="not ready\n", status=503)

    app = web.Application()
    app.add_routes([web.get("/metrics", scrape), web.get("/healthz", health)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.SockSite(runner, bound(EVERYWHERE, port)).start()
    return runner, int(runner.addresses[0][1])
