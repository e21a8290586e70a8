"""`gpt-run plan`: what a run will need and cost, before it starts. No logic here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from trainer.cli.train import Overrides, RunFile


def plan(
    run: RunFile,
    gpu: Annotated[
        str | None, typer.Option(metavar="NAME", help="Accelerator, such as h100, h20, a100, l40s, cpu.")
    ] = None,
    gpus: Annotated[int, typer.Option(min=1, help="How many; with --search, at most.")] = 8,
    gpus_per_node: Annotated[
        int | None, typer.Option(min=1, help="In one machine; default: of the usual machine of that kind.")
    ] = None,
    network_gbps: Annotated[float, typer.Option(min=0.1, help="Gbit/s between machines, per GPU.")] = 400.0,
    store_gbps: Annotated[float, typer.Option(min=0.01, help="Gbit/s from one machine to the store.")] = 8.0,
    price: Annotated[
        float | None,
        typer.Option(min=0, help="Per GPU and hour; default: the run file's, then the table's."),
    ] = None,
    dataset_tokens: Annotated[
        str | None, typer.Option(metavar="N", help="Different training tokens, such as 10e9; default: read data.train.")
    ] = None,
    failures: Annotated[float, typer.Option(min=0, help="Failures per 1,000 machines and day.")] = 6.5,
    restart_seconds: Annotated[float, typer.Option(min=0, help="From a failure to the next step.")] = 120.0,
    measured: Annotated[
        str | None, typer.Option(metavar="RUN", help="<store>/<run> on such GPUs: its MFU replaces the estimate.")
    ] = None,
    law: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Law of `gpt-run scaling-law fit --json`, in place of the published ones."),
    ] = None,
    claims: Annotated[
        str | None, typer.Option(metavar="FILE", help="Claims to hold against the plan; a file or a preset's name.")
    ] = None,
    claim: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="One more claim; [low,high] for a range.")
    ] = None,
    search: Annotated[
        Literal["fastest", "cheapest"] | None,
        typer.Option(help="Propose GPUs, sharding, recomputation and micro-batch; without --gpu, of all kinds."),
    ] = None,
    overrides: Overrides = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Plan a run: parameters, FLOPs, memory per GPU, speed, time, cost, saves, failures, loss, and what to change.

    Claims that cannot be true are named. Exits 2 where the run does not fit, and says by how much and what helps most.
    --json prints {parameters, flops_per_token, memory_bytes, tokens_per_second, hours, cost, losses, advice,
    contradictions};
    with --search also `search`, the proposals, the first of which the rest is about.

    Example: gpt-run plan gpt-1b-h100 --gpu h100 --gpus 8 --dataset-tokens 51.6e9
    """
    from rich.console import Console

    from trainer.config_file import load_run_config
    from trainer.plan.request import Request, answer
    from trainer.plan.text import print_candidates, print_plan

    request = Request(
        config=load_run_config(run, overrides or []),
        gpu=gpu,
        gpus=gpus,
        gpus_per_node=gpus_per_node,
        network_gbps=network_gbps,
        store_gbps=store_gbps,
        price=price,
        dataset_tokens=dataset_tokens,
        failures_per_1000_node_days=failures,
        restart_seconds=restart_seconds,
        measured=measured,
        claims=claims,
        single_claims=tuple(claim or ()),
        goal=search,
        law=law,
    )
    found = answer(request)
    if as_json:
        typer.echo(json.dumps(found.as_dict()))
    else:
        console = Console()
        if found.candidates:
            print_candidates(found.candidates, console, search or "")
        print_plan(found.plan, console, assumed=found.assumed)
    found.complain()
