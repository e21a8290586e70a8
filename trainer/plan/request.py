"""From the words of a command to a plan: machines, assumptions, what the data and a measured run say.

The one module here that reads files. Called by `trainer.cli.plan`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from trainer.config import RunConfig
from trainer.errors import UserError
from trainer.metrics.accelerators import ACCELERATORS
from trainer.plan.advice import give_advice, refuse_if_too_large
from trainer.plan.claims import Claims, read_claims
from trainer.plan.contradictions import find_contradictions
from trainer.plan.hardware import Cluster, find_accelerator, make_cluster
from trainer.plan.law_file import read_law
from trainer.plan.plan import Assumptions, Plan, make_plan
from trainer.plan.search import Candidate, Goal, cluster_sizes, search

_USUAL_GPU = "h100-sxm"
# More than there will be; what is computed of them stays a number.
_MOST_TOKENS = 1e18
_BITS = 8


@dataclass(frozen=True)
class Request:
    """What the user asked for."""

    config: RunConfig
    gpu: str | None = None
    gpus: int = 8
    gpus_per_node: int | None = None
    network_gbps: float = 400.0
    store_gbps: float = 8.0
    price: float | None = None
    dataset_tokens: str | None = None
    failures_per_1000_node_days: float = 6.5
    restart_seconds: float = 120.0
    measured: str | None = None
    claims: str | None = None
    single_claims: tuple[str, ...] = ()
    goal: Goal | None = None
    law: Path | None = None


@dataclass(frozen=True)
class Answer:
    """The plan, and with a search the proposals, of which it is the first."""

    plan: Plan
    assumed: str
    """Said beside the machines where the user named none."""
    candidates: list[Candidate] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """As `gpt-run plan --json` prints it."""
        document = self.plan.as_dict()
        if self.candidates:
            document["search"] = [
                {
                    "gpu": found.plan.cluster.accelerator.name,
                    "gpus": found.plan.cluster.gpus,
                    "set": list(found.changes),
                    "tokens_per_second": found.plan.typical.tokens_per_second,
                    "hours": found.plan.hours,
                    "cost": found.plan.cost,
                }
                for found in self.candidates
            ]
        return document

    def complain(self) -> None:
        """UserError if the run does not fit."""
        refuse_if_too_large(self.plan)


def answer(request: Request) -> Answer:
    """The plan that was asked for, with advice and contradictions. UserError for what is wrong in the request."""
    request = replace(request, config=_with_teacher(request.config))
    claims = read_claims(request.claims, list(request.single_claims))
    assumptions = _assumptions(request, claims)
    candidates: list[Candidate] = []
    if request.goal is not None:
        candidates = search(request.config, _searched(request), assumptions, request.goal)
        plan = candidates[0].plan
    else:
        cluster = _cluster(request, request.gpu or _USUAL_GPU)
        _check_ranks(request.config, cluster)
        plan = make_plan(request.config, cluster, assumptions)
    plan = replace(plan, advice=give_advice(plan), contradictions=find_contradictions(claims, plan))
    assumed = "" if request.gpu or request.goal else " (assumed; name yours with --gpu and --gpus)"
    return Answer(plan, assumed, candidates)


def _with_teacher(config: RunConfig) -> RunConfig:
    """The run with the model of its teacher; as it is where that is not there yet, which the advice says."""
    if config.task != "distill" or config.distill is None or config.distill.teacher_model is not None:
        return config
    from trainer.evaluate.identity import identify_model

    try:
        model = identify_model(config.distill.teacher).config
    except (UserError, OSError, ImportError):
        return config
    return config.model_copy(update={"distill": config.distill.model_copy(update={"teacher_model": model})})


def _cluster(request: Request, name: str) -> Cluster:
    return make_cluster(
        find_accelerator(name),
        request.gpus,
        gpus_per_machine=request.gpus_per_node,
        network_bytes_per_second=request.network_gbps * 1e9 / _BITS,
        price_per_gpu_hour=request.price if request.price is not None else request.config.cost.price_per_gpu_hour,
    )


def _searched(request: Request) -> list[Cluster]:
    """Of the kind that was named, else of all GPUs of the table."""
    names = [request.gpu] if request.gpu else [entry.name for entry in ACCELERATORS if entry.slots > 1]
    return [smaller for name in names for smaller in cluster_sizes(_cluster(request, name))]


def _check_ranks(config: RunConfig, cluster: Cluster) -> None:
    if cluster.gpus > config.batch.sequences:
        raise UserError(
            f"--gpus {cluster.gpus} with batch.sequences {config.batch.sequences}",
            expected="at least one sequence of the global batch for each rank",
            fix="plan for fewer GPUs, or raise batch.sequences",
        )


def _assumptions(request: Request, claims: Claims) -> Assumptions:
    mfu, per_gpu = _measured(request.measured) if request.measured else (None, None)
    return Assumptions(
        dataset_tokens=_dataset_tokens(request, claims),
        measured_mfu_ratio=mfu,
        measured_tokens_per_second_per_gpu=None if mfu is not None else per_gpu,
        failures_per_1000_node_days=request.failures_per_1000_node_days,
        restart_seconds=request.restart_seconds,
        store_bytes_per_second=request.store_gbps * 1e9 / _BITS,
        law=None if request.law is None else read_law(request.law),
    )


def _dataset_tokens(request: Request, claims: Claims) -> int | None:
    """As told, as the prepared set says, as claimed; None where none of them does."""
    if request.dataset_tokens is not None:
        try:
            tokens = float(request.dataset_tokens.replace(",", "").replace("_", ""))
        except ValueError:
            tokens = 0.0
        if not 1 <= tokens <= _MOST_TOKENS:
            raise UserError(
                f"--dataset-tokens {request.dataset_tokens}",
                expected=f"a number such as 10e9, from 1 to {_MOST_TOKENS:g}",
                fix="write a number",
            )
        return int(tokens)
    from trainer.data.dataset import open_training

    try:
        splits = open_training(request.config.data, request.config.sequence_length)
    except (UserError, OSError, ImportError):
        # A plan is made before the data is there; the advice says that the length is unknown.
        return None if claims.dataset_tokens is None else int(claims.dataset_tokens[0])
    return sum(split.num_samples for split in splits) * request.config.sequence_length


def _measured(url: str) -> tuple[float | None, float | None]:
    """MFU and tokens per second per worker of a run, at the largest world it had."""
    from trainer.metrics.report import report_run

    scaling = report_run(url).report.performance.scaling
    if not scaling:
        raise UserError(
            f"--measured {url}: the run's lines tell no speed",
            expected="a run that has trained for some logging intervals",
            fix="name another run",
        )
    last = scaling[-1]
    return last.mfu_ratio, last.tokens_per_second_per_worker
