"""`gpt-run job`: submit a run to a cluster, watch and change it; `gpt-run status`: what a run does. No logic here."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

    from stamina.instrumentation import RetryDetails

    from trainer.jobs.backends import Backend
    from trainer.jobs.cluster import Cluster
    from trainer.jobs.state import JobState
    from trainer.jobs.watch import Outcome, View

app = typer.Typer(
    help="Submit a run to a cluster, follow its log, scale, suspend, resume it, wait for its end.",
    no_args_is_help=True,
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The run: its job's name, which is the release's.")]
Namespace = Annotated[
    str | None, typer.Option("--namespace", "-n", metavar="NS", help="Default: that of the kubeconfig's context.")
]
Context = Annotated[str | None, typer.Option("--context", metavar="NAME", help="A context of the kubeconfig.")]
Timeout = Annotated[
    float | None, typer.Option("--timeout", metavar="SECONDS", min=0, help="Stop waiting after this, with exit 1.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]

# Commands that stay for hours outlive an API server that is upgraded.
LONG_SECONDS = 600.0
_SHORT_SECONDS = 20.0


@app.command(epilog="Example: gpt-run job submit gpt2 -f charts/gpt-run/values-h100.yaml --set store.url=s3://b/runs")
def submit(
    name: Name,
    values: Annotated[
        list[str] | None, typer.Option("--values", "-f", metavar="FILE", help="Values; may be given several times.")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change one value, in the YAML of run files."),
    ] = None,
    chart: Annotated[str, typer.Option("--chart", metavar="CHART", help="A folder, or oci://...")] = "charts/gpt-run",
    wait: Annotated[bool, typer.Option("--wait", help="Then wait as `gpt-run job wait` does.")] = False,
    timeout: Timeout = None,
    namespace: Namespace = None,
    context: Context = None,
    as_json: AsJson = False,
) -> None:
    """Render the chart for a new run and apply it; the job owns the other objects, so deleting it removes the run.

    The same run may be submitted again; another one of the same name is refused.
    """
    cluster = connect(context, namespace, LONG_SECONDS if wait else _SHORT_SECONDS)
    from dataclasses import asdict

    from trainer.jobs import submit as jobs
    from trainer.jobs.render import render

    rendered = render(
        name,
        chart=chart,
        namespace=cluster.namespace,
        values=values or [],
        overrides=overrides or [],
        kube_version=cluster.version(),
    )
    applied = jobs.submit(cluster, name, rendered, _say if as_json else typer.echo)
    if as_json:
        objects = [asdict(one) for one in applied]
        typer.echo(json.dumps({"name": name, "namespace": cluster.namespace, "objects": objects}))
    if wait:
        _wait(cluster, name, timeout, as_json)


@app.command(epilog="Example: gpt-run job logs gpt2 --follow")
def logs(
    name: Name,
    follow: Annotated[bool, typer.Option("--follow", help="Go on until the run is over.")] = False,
    tail: Annotated[int | None, typer.Option("--tail", metavar="N", min=0, help="Begin with the last N lines.")] = None,
    namespace: Namespace = None,
    context: Context = None,
) -> None:
    """Print rank 0's log; with --follow also when rank 0 moves to another pod, or its pod is replaced."""
    cluster = connect(context, namespace, LONG_SECONDS if follow else _SHORT_SECONDS)
    from trainer.jobs.backends import find_run
    from trainer.jobs.logs import LogFollower

    backend, _ = find_run(cluster, name)
    follower = LogFollower(cluster, backend, tail=tail, out=lambda line: print(line, flush=True), say=_say)
    if follow:
        follower.follow(name)
    else:
        follower.once(name)


@app.command(epilog="Example: gpt-run job scale gpt2 4")
def scale(
    name: Name,
    workers: Annotated[int, typer.Argument(metavar="N", help="Worker pods, between workers.min and workers.max.")],
    namespace: Namespace = None,
    context: Context = None,
    as_json: AsJson = False,
) -> None:
    """Change the number of worker pods of a run. It saves, and goes on with the new number; no step is lost."""
    cluster, backend, state = _find(name, context, namespace)
    from trainer.jobs import change

    change.scale(cluster, backend, state, workers, _say)
    if state.queue is not None:
        _say(f"Kueue manages {name}: it may stop the whole run until there is room for all of it")
    if as_json:
        typer.echo(json.dumps({"name": name, "before": state.replicas, "workers": workers}))
    else:
        typer.echo(f"{name}: {state.replicas} workers before, {workers} from now on")


@app.command(epilog="Example: gpt-run job suspend gpt2 --wait")
def suspend(
    name: Name,
    wait: Annotated[bool, typer.Option("--wait", help="Until the workers have saved and their pods are gone.")] = False,
    timeout: Timeout = None,
    namespace: Namespace = None,
    context: Context = None,
    as_json: AsJson = False,
) -> None:
    """Save and free every machine of a run; `resume` goes on at the same step."""
    from trainer.jobs import change
    from trainer.jobs.state import Phase

    cluster, backend, state = _find(name, context, namespace)
    if state.queue is not None:
        _say(f"Kueue manages {name}: it resumes the run as long as its Workload is active")
    change.suspend(backend, state)
    outcome = None
    if wait:
        outcome = _watch(cluster, backend, name, lambda view: view.phase in (Phase.SUSPENDED, Phase.QUEUED), timeout)
    _tell_change(name, "suspended", state.suspend, outcome, as_json)


@app.command(epilog="Example: gpt-run job resume gpt2 --wait")
def resume(
    name: Name,
    wait: Annotated[bool, typer.Option("--wait", help="Until steps are taken again.")] = False,
    timeout: Timeout = None,
    namespace: Namespace = None,
    context: Context = None,
    as_json: AsJson = False,
) -> None:
    """Let a suspended run go on, from its newest checkpoint."""
    cluster, backend, state = _find(name, context, namespace)
    from trainer.jobs import change

    change.resume(cluster, backend, state, _say)
    outcome = _watch(cluster, backend, name, lambda view: view.trains, timeout) if wait else None
    _tell_change(name, "resumed", not state.suspend, outcome, as_json)


@app.command(epilog="Example: gpt-run job wait gpt2 --timeout 86400")
def wait(
    name: Name, timeout: Timeout = None, namespace: Namespace = None, context: Context = None, as_json: AsJson = False
) -> None:
    """Show a run's progress until it is over. Exit 0: succeeded, 1: failed or out of time, 75: suspended."""
    _wait(connect(context, namespace, LONG_SECONDS), name, timeout, as_json)


def status(
    target: Annotated[
        str | None,
        typer.Argument(metavar="URL|RELEASE", help="A coordinator, or a release; default: a run on this machine."),
    ] = None,
    namespace: Namespace = None,
    context: Context = None,
    as_json: AsJson = False,
) -> None:
    """Show what a run does: health, step, loss, speed, end, cost, checkpoint, time by bucket, machines, last error.

    Example: gpt-run status http://localhost:29480
    """
    from datetime import UTC, datetime

    from trainer.jobs.screen import status_screen
    from trainer.jobs.status import LOCAL, is_url, read_url

    if target is None or is_url(target):
        document = read_url(target or LOCAL)
    else:
        document = _status_of_release(target, context, namespace)
    typer.echo(json.dumps(document) if as_json else "\n".join(status_screen(document, datetime.now(UTC))))


def _status_of_release(name: str, context: str | None, namespace: str | None) -> dict[str, Any]:
    from trainer.errors import UserError

    try:
        cluster = connect(context, namespace, _SHORT_SECONDS)
    except UserError as error:
        fix = f"for a run on this machine give the URL that `gpt-run train` printed; for a release {error.fix}"
        raise UserError(error.found, expected=error.expected, fix=fix) from error
    document = cluster.status(name)
    if document is not None:
        return document
    from trainer.jobs.backends import find_run
    from trainer.jobs.state import complaints_of
    from trainer.jobs.status import unanswered

    _, state = find_run(cluster, name)
    why = "; ".join([state.message, *complaints_of(cluster.pods(name)).values()]).strip("; ")
    for line in unanswered(name, state.phase, why):
        _say(line)
    raise typer.Exit(1)


def connect(context: str | None, namespace: str | None, patience_seconds: float) -> Cluster:
    from trainer.extras import needs

    with needs("kubernetes", "runs on Kubernetes"):
        import kubeflow.training  # noqa: F401
        import kubernetes  # noqa: F401
    from stamina.instrumentation import set_on_retry_hooks

    from trainer.jobs.cluster import connect

    set_on_retry_hooks([_tell_retry])
    return connect(context=context, namespace=namespace, patience_seconds=patience_seconds)


def _find(name: str, context: str | None, namespace: str | None) -> tuple[Cluster, Backend, JobState]:
    cluster = connect(context, namespace, _SHORT_SECONDS)
    from trainer.jobs.backends import find_run

    return cluster, *find_run(cluster, name)


def _watch(
    cluster: Cluster, backend: Backend, name: str, done: Callable[[View], bool], timeout: float | None
) -> Outcome:
    from rich.console import Console

    from trainer.jobs.display import display
    from trainer.jobs.watch import Watch

    with display(Console(stderr=True)) as shown:
        return Watch(cluster, backend, name).wait_for(shown, done, timeout_seconds=timeout)


def _tell_change(name: str, change: str, as_before: bool, outcome: Outcome | None, as_json: bool) -> None:
    from trainer.jobs.state import Phase

    failed = outcome is not None and (outcome.timed_out or outcome.view.phase is Phase.FAILED)
    if as_json:
        phase = outcome.view.phase if outcome is not None else None
        typer.echo(json.dumps({"name": name, "change": change, "as_before": as_before, "phase": phase}))
    elif outcome is None or not failed:
        typer.echo(f"{name}: {change}{' (as before)' if as_before else ''}")
    else:
        typer.echo(f"{name}: {change}, but it is {outcome.view.phase} now")
    raise typer.Exit(1 if failed else 0)


def _wait(cluster: Cluster, name: str, timeout: float | None, as_json: bool) -> None:
    from rich.console import Console

    from trainer.jobs.backends import find_run
    from trainer.jobs.display import display
    from trainer.jobs.watch import Watch, report

    backend, _ = find_run(cluster, name)
    with display(Console(stderr=as_json)) as shown:
        outcome = Watch(cluster, backend, name).wait_for_end(shown, timeout_seconds=timeout)
    view = outcome.view
    if as_json:
        found = {"name": name, "phase": view.phase, "timed_out": outcome.timed_out, "status": view.document}
        typer.echo(json.dumps({**found, "messages": report(outcome, name, timeout)}))
    else:
        typer.echo("\n".join(report(outcome, name, timeout)))
    raise typer.Exit(outcome.exit_code)


def _tell_retry(details: RetryDetails) -> None:
    from trainer.jobs.api_errors import words

    _say(f"{words(details.caused_by)}; next try in {details.wait_for:.1f} s")


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
