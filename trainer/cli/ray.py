"""`gpt-run ray`: the same run under Ray Train."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from trainer.cli.train import Overrides, RunFile, parse_range
from trainer.errors import UserError

if TYPE_CHECKING:
    from trainer.elastic.status import RunStatus, StatusServer


def ray(
    run: RunFile,
    workers: Annotated[
        str,
        typer.Option(
            "--workers", metavar="MIN:MAX", help="Workers (ranks, one GPU each) that Ray may place; a number fixes it."
        ),
    ] = "1",
    device: Annotated[
        Literal["auto", "cpu", "cuda"],
        typer.Option("--device", help="What a worker takes up; auto: a GPU if the cluster has any now."),
    ] = "auto",
    resize_seconds: Annotated[
        float,
        typer.Option(
            "--resize-seconds", min=1.0, help="Seconds between two looks whether there is room for more workers."
        ),
    ] = 30.0,
    http: Annotated[
        int | None,
        typer.Option(
            "--http",
            min=1,
            max=65535,
            help="Port of /status, /metrics, /healthz; default: 29480, on a laptop or the next free.",
        ),
    ] = None,
    overrides: Overrides = None,
) -> None:
    """Train under Ray, on the cluster that RAY_ADDRESS names or on one of this machine alone.

    Goes on from the newest checkpoint, also of `gpt-run train`. SIGTERM and Ctrl+C save and stop (exit 75).

    Example: gpt-run ray tiny-gpt2 --workers 1:4 --set steps=100
    """
    from trainer.elastic.signals import StopSignals

    # Before anything that takes time.
    signals = StopSignals(quits=False)
    from trainer.config_file import load_run_config
    from trainer.elastic.status import RunStatus

    config = load_run_config(run, overrides or [])
    smallest, largest = parse_range(workers, "--workers", "workers")
    if largest > config.batch.sequences:
        raise UserError(
            f"--workers up to {largest} with batch.sequences {config.batch.sequences}",
            expected="at least one sequence of the global batch for each worker",
            fix="ask for fewer workers, or raise batch.sequences",
        )
    words = ["gpt-run", "ray", run, "--workers", workers]
    command = shlex.join([*words, *(part for override in overrides or [] for part in ("--set", override))])
    status = RunStatus()
    server = _serve(status, http)
    print(f"status: http://localhost:{server.port}/status", flush=True)

    from trainer.ray.cluster import connected, has_gpus

    with connected(largest):
        from trainer.ray.driver import Driver, RayJob

        use_gpu = device == "cuda" or (device == "auto" and has_gpus())
        job = RayJob(config, command, smallest, largest, use_gpu, resize_seconds)
        code = Driver(job, status, signals).run()
    server.close()
    sys.exit(code)


def _serve(status: RunStatus, http: int | None) -> StatusServer:
    """In a pod the port is a promise: probes and the operator look there. Elsewhere the next free one will do."""
    from trainer.addresses import EVERYWHERE
    from trainer.elastic.pod import in_pod
    from trainer.elastic.server import HOST, HTTP_PORT, first_free_server
    from trainer.elastic.status import StatusServer

    if in_pod():
        return StatusServer(status, EVERYWHERE, http or HTTP_PORT)
    return StatusServer(status, HOST, http) if http is not None else first_free_server(status)
