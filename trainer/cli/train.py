"""`gpt-run train` (the launcher), `gpt-run worker` (one rank) and `gpt-run coordinator` (where launchers meet)."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trainer.addresses import parted
from trainer.errors import UserError

if TYPE_CHECKING:
    from trainer.config import RunConfig
    from trainer.elastic.launcher import Job

# Set by the training operator in its pods.
COORDINATOR_VARIABLE = "PET_RDZV_ENDPOINT"
# torch makes this folder when it is imported, and cannot be imported where that fails.
COMPILE_CACHE_VARIABLE = "TORCHINDUCTOR_CACHE_DIR"
RunFile = Annotated[str, typer.Argument(metavar="RUN", help="A run file, or the name of a preset.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change one key, or with @FILE all that a file has; repeatable."),
]


def train(
    run: RunFile,
    nproc: Annotated[
        str,
        typer.Option(
            "--nproc",
            metavar="N",
            envvar="PET_NPROC_PER_NODE",
            help="Workers (ranks) to start on this machine; auto: one per GPU, or one.",
        ),
    ] = "1",
    nnodes: Annotated[
        str, typer.Option("--nnodes", metavar="MIN:MAX", envvar="PET_NNODES", help="Machines that take part.")
    ] = "1",
    coordinator: Annotated[
        str | None,
        typer.Option(
            "--coordinator",
            metavar="HOST:PORT",
            envvar=COORDINATOR_VARIABLE,
            help="Where launchers meet; needed for more than one machine.",
        ),
    ] = None,
    overrides: Overrides = None,
) -> None:
    """Train, from the newest checkpoint on. Ctrl+C saves and stops (exit 75); a second one quits at once.

    Example: gpt-run train tiny-gpt2 --nproc 2 --set steps=100 --set checkpoint.store=s3://bucket/runs
    """
    from trainer.elastic.signals import StopSignals

    # Before anything that takes time: a process that is PID 1 loses signals that it has no handler for.
    signals = StopSignals(quits=False)
    from trainer.config_file import load_run_config
    from trainer.elastic.launcher import Launcher

    config = load_run_config(run, overrides or [])
    min_nodes, max_nodes = parse_range(nnodes, "--nnodes", "machines")
    slots = parse_workers(nproc)
    if slots * min_nodes > config.batch.sequences:
        raise UserError(
            f"--nproc {slots} on {min_nodes} machines with batch.sequences {config.batch.sequences}",
            expected="at least one sequence of the global batch for each rank",
            fix="start fewer workers, or raise batch.sequences",
        )
    _check_compile_cache()
    job = _job(config, (run, tuple(overrides or ())), slots, min_nodes, max_nodes)
    with _meeting_place(coordinator, max_nodes, config.name) as address:
        launcher = Launcher(job, coordinator=address, preload="trainer.train.warm", signals=signals)
        code = launcher.run()
    sys.exit(code)


def worker(run: RunFile, overrides: Overrides = None) -> None:
    """Run one rank; for torchrun, which sets RANK, WORLD_SIZE and MASTER_ADDR.

    Example: torchrun --nproc-per-node 2 -m trainer worker tiny-gpt2
    """
    from trainer.elastic.signals import StopSignals, name_process

    # Before torch is imported, which takes seconds in which a signal must not be lost.
    signals = StopSignals()
    name_process(f"gpt-run:rank{os.environ.get('RANK', '0')}")
    from trainer.elastic.pulse import Pulse
    from trainer.train.worker import run_worker

    code = run_worker(run, overrides or [], signals, Pulse())
    sys.stdout.flush()
    sys.stderr.flush()
    sys.exit(code)


def coordinator(
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Port for launchers.")] = 29400,
    http: Annotated[int, typer.Option("--http", min=1, max=65535, help="Port of /status, /metrics, /healthz.")] = 29480,
    run: Annotated[
        str | None, typer.Option("--run", help="Serve this run alone; default: the first that comes.")
    ] = None,
) -> None:
    """Serve the launchers of one run: agree on who trains, tell when that changes, show the run's status.

    Example: gpt-run coordinator --port 29400 --http 29480
    """
    from trainer.elastic.server import serve_coordinator

    serve_coordinator(port=port, http_port=http, run=run)


def parse_workers(text: str) -> int:
    """A number of workers, or `auto` for as many as this machine has GPUs. UserError for anything else."""
    from trainer.elastic.pod import count_gpus

    if text in ("auto", "gpu"):
        return max(1, count_gpus())
    if not text.isdecimal() or int(text) < 1:
        raise UserError(
            f"--nproc {text}",
            expected="a number of workers, 1 or more, or auto",
            fix="write for example --nproc 8",
        )
    return int(text)


def parse_range(text: str, option: str, what: str) -> tuple[int, int]:
    """`3` or `1:3` as (smallest, largest) number of machines or workers. UserError for anything else."""
    smallest, colon, largest = text.partition(":")
    try:
        found = int(smallest), int(largest if colon else smallest)
    except ValueError:
        found = (0, 0)
    if not 1 <= found[0] <= found[1]:
        raise UserError(
            f"{option} {text}",
            expected=f"a number of {what}, or MIN:MAX with 1 <= MIN <= MAX",
            fix=f"write for example {option} 1:4",
        )
    return found


def parse_address(text: str) -> tuple[str, int]:
    """`HOST:PORT`. UserError for anything else."""
    try:
        return parted(text)
    except ValueError as error:
        raise UserError(
            f"--coordinator {text}",
            expected="HOST:PORT of `gpt-run coordinator`",
            fix="write for example --coordinator gpt-run-coordinator:29400, or [fd00::1]:29400",
        ) from error


def _check_compile_cache() -> None:
    """UserError for a folder of compiled kernels that cannot be made."""
    folder = os.environ.get(COMPILE_CACHE_VARIABLE)
    try:
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{COMPILE_CACHE_VARIABLE}={folder}: {error.strerror}",
            expected="a folder that this user may make and write",
            fix=f"name another, or unset {COMPILE_CACHE_VARIABLE}",
        ) from error


def _job(config: RunConfig, arguments: tuple[str, tuple[str, ...]], slots: int, smallest: int, largest: int) -> Job:
    from trainer.elastic.launcher import Job
    from trainer.settings import settings_sha256
    from trainer.version import VERSION

    return Job(
        run=config.name,
        # Of an image whose build says what it was made from, that too.
        version="+".join(filter(None, [VERSION, os.environ.get("GPTRUN_GIT_COMMIT")])),
        config_sha256=settings_sha256(config),
        function="trainer.train.warm:work",
        arguments=arguments,
        slots=slots,
        min_nodes=smallest,
        max_nodes=largest,
        grace_seconds=config.elastic.grace_seconds,
        hang_seconds=config.elastic.hang_seconds,
        budget_failures=config.elastic.budget.failures,
        budget_window_seconds=config.elastic.budget.window_seconds,
        patient=COORDINATOR_VARIABLE in os.environ,
    )


@contextlib.contextmanager
def _meeting_place(given: str | None, max_nodes: int, run: str) -> Iterator[tuple[str, int]]:
    """The coordinator's address: the given one, or that of one of our own on this machine."""
    if given is not None:
        yield parse_address(given)
        return
    if max_nodes > 1:
        raise UserError(
            f"--nnodes up to {max_nodes}, and no --coordinator",
            expected="the address of a coordinator where the machines meet",
            fix="start `gpt-run coordinator` on a machine that stays, and name it: --coordinator HOST:29400",
        )
    from trainer.elastic.server import HOST, LocalCoordinator

    local = LocalCoordinator(run)
    print(f"status: http://{HOST}:{local.http_port}/status", flush=True)
    try:
        yield HOST, local.port
    finally:
        local.close()
