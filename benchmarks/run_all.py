"""Measure the figures of the README's table and write them into it.

    python -m benchmarks.run_all [--only NAME] [--render]

Runs each script once with `--json`, one after another, and keeps what it said in benchmarks/results.json together with
the hardware; the table between the README's `benchmarks` markers is drawn from that file. `--only` measures the script
behind one row again (NAME is the row's or the script's; may be repeated) and keeps the others; `--render` measures
nothing. Run it on a machine that does nothing else. Exits with 1 where a script failed.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.common import hardware
from benchmarks.recovery import BARS

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
RESULTS = Path(__file__).parent / "results.json"
START, END = "<!-- benchmarks:start -->", "<!-- benchmarks:end -->"

Report = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """One line of the table; `figure` reads the script's report and says what was measured and whether it is enough."""

    name: str
    what: str
    bar: str
    script: str
    figure: Callable[[Report], tuple[str, bool]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = sorted({row.name for row in ROWS} | {row.script for row in ROWS})
    parser.add_argument("--only", action="append", choices=names, metavar="NAME", help=f"one of {', '.join(names)}")
    parser.add_argument("--render", action="store_true", help="draw the table from results.json")
    options = parser.parse_args()
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    failed = []
    for script in [] if options.render else scripts(options.only):
        print(f"{script} ...", file=sys.stderr, flush=True)
        report = run(script)
        if report is None:
            failed.append(script)
            continue
        results[script] = {"hardware": hardware(), "report": report}
        # After each script, so that an interruption loses only the one in progress.
        RESULTS.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
        write_table(results)
    write_table(results)
    if failed:
        print(f"failed: {', '.join(failed)}; their rows stay as they were", file=sys.stderr)
    return int(bool(failed))


def scripts(only: list[str] | None) -> list[str]:
    """Scripts to run, in the order of the table, each once."""
    wanted = [row.script for row in ROWS if only is None or row.name in only or row.script in only]
    return list(dict.fromkeys(wanted))


def run(script: str) -> Report | None:
    """The report of one script; None if it printed none."""
    command = [sys.executable, "-m", f"benchmarks.{script}", *ARGUMENTS.get(script, ()), "--json"]
    result = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    try:
        report: Report = json.loads(result.stdout)
    except json.JSONDecodeError:
        print(f"{' '.join(command)} ended with {result.returncode} and no report", file=sys.stderr)
        return None
    return report


def write_table(results: dict[str, Any]) -> None:
    """Replace what stands between the README's markers."""
    text = README.read_text(encoding="utf-8")
    block = f"{START}\n{table(results)}\n{END}"
    text, found = re.subn(f"(?s){START}.*?{END}", lambda _: block, text)
    if found != 1:
        sys.exit(f"{README} needs the markers {START} and {END} once")
    README.write_text(text, encoding="utf-8")


def table(results: dict[str, Any]) -> str:
    """The table, and below it the machine and the days."""
    lines = ["| what | bar | measured | script in benchmarks/ |", "| --- | --- | --- | --- |"]
    for row in ROWS:
        measured, enough = "not measured", True
        if row.script in results:
            measured, enough = row.figure(results[row.script]["report"])
        lines.append(f"| {row.what} | {row.bar} | {measured}{'' if enough else ' (missed)'} | `{row.script}.py` |")
    return "\n".join([*lines, "", *machines(results)])


def machines(results: dict[str, Any]) -> list[str]:
    """One sentence per machine; with several, each names its scripts."""
    dates: dict[str, list[str]] = {}
    measured: dict[str, list[str]] = {}
    used = set(scripts(None))
    for script, result in sorted(results.items()):
        if script in used:
            machine = describe(result["hardware"])
            dates.setdefault(machine, []).append(result["hardware"]["date"])
            measured.setdefault(machine, []).append(f"`{script}`")
    sentences = []
    for machine, days in dates.items():
        period = min(days) if min(days) == max(days) else f"{min(days)} to {max(days)}"
        which = f"{', '.join(measured[machine])}: " if len(dates) > 1 else "Measured on "
        sentences.append(f"{which}{machine}, {period}.")
    return sentences


def describe(machine: dict[str, Any]) -> str:
    gpu = f"{machine['gpu']}, " if machine["gpu"] else ""
    return f"{gpu}{machine['cpu']}, {machine['cores']} cores, torch {machine['torch']}"


# What each script's report says ---------------------------------------------------------------------------------------


def resume_exact(report: Report) -> tuple[str, bool]:
    runs = report["results"]
    compared, losses, batches, replayed = (
        sum(run[key] for run in runs)
        for key in ("compared_steps", "different_losses", "different_batches", "replayed_steps")
    )
    figure = f"{losses} losses and {batches} batches of {compared} differ; {replayed} steps were done again"
    return figure, losses == batches == 0


def resume_elastic(report: Report) -> tuple[str, bool]:
    largest, batches = report["largest_loss_difference"], report["different_batches"]
    figure = f"{batches} batches differ; losses by at most {largest:.0e}"
    return figure, batches == 0 and largest <= report["bar_loss_difference"]


def extra_time(kind: str, *, bar: bool) -> Callable[[Report], tuple[str, bool]]:
    def figure(report: Report) -> tuple[str, bool]:
        extra = report[f"{kind}_extra_ratio"]
        took = report[f"{kind}_save_seconds"]
        return f"{extra:.1%}; the save took {took:.0f} s", not bar or extra < report["bar_extra_ratio"]

    return figure


def transfer(direction: str) -> Callable[[Report], tuple[str, bool]]:
    def figure(report: Report) -> tuple[str, bool]:
        ratio, rate = report[f"{direction}_ratio"], report[f"{direction}_megabytes_per_second"]
        return f"{ratio:.2f} ({rate:,.0f} MB/s)", ratio >= 0.8

    return figure


def throughput(size: str) -> Callable[[Report], tuple[str, bool]]:
    def figure(report: Report) -> tuple[str, bool]:
        result = report["results"][size]
        accelerate, plain = result["ratio"]["accelerate"], result["ratio"]["plain"]
        rate = result["tokens_per_second"]["gpt-run"]
        return (
            f"{accelerate:.2f} and {plain:.2f} ({rate:,.0f} tokens/s)",
            result["ratio_to_faster"] >= report["bar_ratio"],
        )

    return figure


def generation(size: str) -> Callable[[Report], tuple[str, bool]]:
    def figure(report: Report) -> tuple[str, bool]:
        result = report["results"][size]
        rate = result["tokens_per_second"]["gpt-run"]
        return f"{result['ratio']:.2f} ({rate:,.0f} tokens/s)", result["ratio"] >= report["bar_ratio"]

    return figure


def loader(report: Report) -> tuple[str, bool]:
    slowest = min(result["tokens_per_second_per_core"] for result in report["results"])
    growth = max(result["memory_mb_per_epoch"][-1] - result["memory_mb_per_epoch"][0] for result in report["results"])
    return f"{slowest:,.0f}; {growth:+.1f} MB", slowest >= report["bar_tokens_per_second_per_core"]


def loader_remote(mode: str) -> Callable[[Report], tuple[str, bool]]:
    def figure(report: Report) -> tuple[str, bool]:
        ratio, rates = report[mode]["ratio_to_fastest"], report[mode]["tokens_per_second"]
        return f"{ratio:.2f} ({rates['gpt-run'] / 1e6:.0f}M tokens/s)", ratio >= report["bar_ratio"]

    return figure


def seek(report: Report) -> tuple[str, bool]:
    slowest = max(row["batch_seconds"] for row in report["results"] if row["step"])
    return f"{slowest * 1e3:.0f} ms", slowest < report["bar_seconds"]


def plan_flops(report: Report) -> tuple[str, bool]:
    equal, worst = report["parameters_equal"], report["worst"]
    figure = f"parameters {'equal' if equal else 'differ'}; FLOP differ by at most {worst:.2%}"
    return figure, equal and worst <= report["bar"]


def scaling_law(report: Report) -> tuple[str, bool]:
    low, high = report["interval"]
    figure = (
        f"{report['ratio']:.3f} ({report['foretold']:.3f}, 95% {low:.3f} to {high:.3f}, of {report['measured']:.3f})"
    )
    return figure, abs(report["ratio"] - 1) <= report["bar"]


def plan_ratios(what: str) -> Callable[[Report], tuple[str, bool]]:
    def figure(report: Report) -> tuple[str, bool]:
        ratios = [result["ratio"] for result in report["results"]]
        worst = max(abs(ratio - 1) for ratio in ratios)
        return f"{len(ratios)} {what}: {min(ratios):.3f} to {max(ratios):.3f} of it", worst <= report["bar"]

    return figure


def parity(family: str) -> Callable[[Report], tuple[str, bool]]:
    def figure(report: Report) -> tuple[str, bool]:
        results = [result for result in report["results"] if result["model"].split(",")[0] == family]
        exported, imported = (max(result[way] for result in results) for way in ("export", "import"))
        return f"{exported:.0e}, {imported:.0e}", max(exported, imported) <= report["bar"]

    return figure


def make_run(report: Report) -> tuple[str, bool]:
    return f"{report['seconds']:.0f} s", report["seconds"] < report["bar_seconds"]


def recovery(event: str) -> Callable[[Report], tuple[str, bool]]:
    def figure(report: Report) -> tuple[str, bool]:
        bar, ours = report["bars"][event], report["results"]["gpt-run"][event]
        theirs = report["results"]["torchrun"].get(event)
        text = f"{ours['median_seconds']:.1f} s (longest {ours['max_seconds']:.1f}), {ours['lost_steps']} lost"
        if theirs is not None:
            text += f"; torchrun {theirs['median_seconds']:.1f} s"
        enough = bar["lost_steps"] is None or ours["lost_steps"] <= bar["lost_steps"]
        return text, enough and ours["median_seconds"] <= bar["seconds"]

    return figure


def soak(report: Report) -> tuple[str, bool]:
    """Of `elastic_soak`."""
    figure = (
        f"{report['seeds']} runs of {report['attempts']} attempts: {report['different_batches']} batches differ, "
        f"losses by at most {report['largest_loss_difference']:.0e}, {report['processes_left']} processes left"
    )
    return figure, not report["failed_seeds"]


def overhead(report: Report) -> tuple[str, bool]:
    return f"{report['ratio']:.2%} ({report['seconds'] * 1e6:.0f} us)", report["ratio"] < report["bar_ratio"]


def metrics_overhead(report: Report) -> tuple[str, bool]:
    figure = f"{report['ratio']:.2%}, of that {report['profile_ratio']:.2%} for profiled steps"
    return figure, report["ratio"] < report["bar_ratio"]


def trackers(report: Report) -> tuple[str, bool]:
    return f"{report['ratio']:.3f}", report["ratio"] >= report["bar_ratio"]


def sft_packing(report: Report) -> tuple[str, bool]:
    figure = (
        f"{report['ratio']:.2f} ({report['packed_padding_ratio']:.0%} padding for {report['padded_padding_ratio']:.0%})"
    )
    return figure, report["ratio"] >= report["bar_ratio"]


def scrape(ranks: int) -> Callable[[Report], tuple[str, bool]]:
    def figure(report: Report) -> tuple[str, bool]:
        last = report["scrapes"][str(ranks)]["last"]
        text = f"{last['series']} series, {last['bytes'] / 1000:.1f} kB, {last['seconds'] * 1e3:.1f} ms"
        return text, last["series"] <= report["bar_series"] and last["seconds"] < report["bar_seconds"]

    return figure


def near_duplicates(report: Report) -> tuple[str, bool]:
    ratio, recall, precision = report["ratio"], report["recall"], report["precision"]
    figure = (
        f"{ratio['datasketch']:.1f}, {ratio['datasketch with CRC-32']:.1f} with its faster hash; recall "
        f"{recall['ours']:.3f} against {recall['datasketch']:.3f}, precision {precision['ours']:.3f} against "
        f"{precision['datasketch']:.3f}"
    )
    as_good = all(kind["ours"] >= kind["datasketch"] - report["bar_difference"] for kind in (recall, precision))
    return figure, as_good and ratio["datasketch"] >= report["bar_ratio"]


def near_duplicates_memory(report: Report) -> tuple[str, bool]:
    figure = " and ".join(f"{peak:.0f} MB on {size} MB" for size, peak in report["peak_megabytes"].items())
    return f"{report['memory_ratio']:.2f} ({figure})", report["memory_ratio"] <= report["bar_memory_ratio"]


def export_memory(report: Report) -> tuple[str, bool]:
    ratio, extra = report["ratio"], report["extra_bytes"]
    figure = f"{ratio['streamed']:.2f} ({extra['streamed'] / 1e6:.0f} MB); loaded and saved whole {ratio['whole']:.2f}"
    return figure, ratio["streamed"] <= report["bar"]


def encoding(report: Report) -> tuple[str, bool]:
    speeds = ", ".join(
        f"{name} {figures['mb_per_second']:.1f}"
        for name, figures in report["engines"].items()
        if name in ("tokenizers", "gigatoken", "tiktoken")
    )
    return f"{speeds}; ids {'equal' if report['same_ids'] else 'differ'}", report["same_ids"]


def tokenise_and_write(engine: str, *, bar: bool) -> Callable[[Report], tuple[str, bool]]:
    def figure(report: Report) -> tuple[str, bool]:
        result = report["engines"].get(engine)
        if result is None:
            return f"not used: {report['choice']}", True
        figure = f"{result['ratio']:.2f} ({result['megabytes_per_second']:.1f} MB/s)"
        return figure, not bar or result["ratio"] >= report["bar_ratio"]

    return figure


def prepare_memory(report: Report) -> tuple[str, bool]:
    figure = " and ".join(f"{run['peak_megabytes']:.0f} MB on {run['megabytes']:.0f} MB" for run in report["runs"])
    return f"{report['memory_ratio']:.2f} ({figure})", report["memory_ratio"] <= report["bar_ratio"]


def whole_pipeline(report: Report) -> tuple[str, bool]:
    ours = report["megabytes_per_second"]["ours"]
    return f"{report['ratio']:.2f} ({ours:.2f} MB/s)", report["ratio"] >= report["bar_ratio"]


def operator_load(key: str, text: str) -> Callable[[Report], tuple[str, bool]]:
    def figure(report: Report) -> tuple[str, bool]:
        return text.format(**report), report[key] <= report["bars"][key]

    return figure


def operator_kills(report: Report) -> tuple[str, bool]:
    figure = f"{report['kills']} kills, {report['wanted']} actions: {report['lost']} lost, {report['doubled']} doubled"
    return figure, report["lost"] == report["doubled"] == 0


def distillation(report: Report) -> tuple[str, bool]:
    alone, taught = (report["sides"][side]["losses"] for side in ("alone", "taught"))
    mean = sum(report["differences"]) / len(report["differences"])
    figure = (
        f"{mean:+.3f} nats on average ({sum(taught) / len(taught):.3f} against {sum(alone) / len(alone):.3f}; the "
        f"teacher has {report['teacher_loss']:.3f})"
    )
    return figure, max(report["differences"]) < 0


# Sizes with which the slower scripts fit into an hour.
ARGUMENTS = {
    "plan_memory": ("--layers", "2"),
    "near_duplicates": ("--documents", "2000", "--rounds", "3", "--megabytes", "50"),
}
FASTER = "tokens/s against Accelerate + Transformers, and against a plain loop"
PAUSE = "pause of three machines with a commit every 20 steps, median, steps done again: "
ROWS = [
    Row(
        "resume-exact",
        "killed at a random step and resumed at the same world size (1 and 2), dropout, against a run left alone, "
        "200 steps",
        "losses and batches bitwise equal",
        "resume_exact",
        resume_exact,
    ),
    Row(
        "resume-elastic",
        "world 2 -> 3 -> 1 over stops, batches of 10 sequences, fp32, against a run left alone, 200 steps",
        "same batches, losses within 1e-5",
        "resume_elastic",
        resume_elastic,
    ),
    *(
        Row(
            f"recovery-{number}",
            f"{PAUSE if number == 0 else 'the same: '}{event}",
            f"<= {seconds:g} s" + ("" if lost is None else f", {lost} lost"),
            "recovery",
            recovery(event),
        )
        for number, (event, (seconds, lost)) in enumerate(BARS.items())
    ),
    Row(
        "elastic-soak",
        "500 steps under seeded trouble of all these kinds, clocks 5 s apart, against a run left alone",
        "every batch once, losses within 1e-5, no process left",
        "elastic_soak",
        soak,
    ),
    Row(
        "step-overhead",
        "what elasticity adds to a step of 100 ms, two ranks",
        "< 0.5%",
        "step_overhead",
        overhead,
    ),
    Row(
        "metrics-overhead",
        "what measuring adds to a step of a small GPT-2: time, machines, lines, reports, profiled steps",
        "< 1%",
        "metrics_overhead",
        metrics_overhead,
    ),
    Row(
        "trackers",
        "steps/s with TensorBoard, Weights & Biases (offline) and histograms against none",
        ">= 0.99",
        "trackers",
        trackers,
    ),
    Row(
        "scrape-8", "a scrape after 1,000 attempts of 8 (made-up) ranks", "<= 200 series, < 50 ms", "scrape", scrape(8)
    ),
    Row("scrape-1024", "the same: 1,024 ranks", "<= 200 series, < 50 ms", "scrape", scrape(1024)),
    Row(
        "save-async",
        "time added to 20 steps by an asynchronous save, 98M parameters, to an S3 server on the same cores at the "
        "lowest priority",
        "< 5%",
        "save_stall",
        extra_time("async", bar=True),
    ),
    Row("save-sync", "the same by a synchronous save", "", "save_stall", extra_time("sync", bar=False)),
    Row(
        "checkpoint-write",
        "checkpoint write against raw transfer, same bytes and hashing",
        ">= 0.8",
        "checkpoint_io",
        transfer("write"),
    ),
    Row("checkpoint-read", "checkpoint read against raw transfer", ">= 0.8", "checkpoint_io", transfer("read")),
    Row(
        "sft-packing",
        "instruction tuning on packed rows against padded batches, useful tokens/s, docstrings as answers",
        ">= 1.5",
        "sft_packing",
        sft_packing,
    ),
    Row("throughput-1m", f"{FASTER}: 1.2M parameters, fp32", ">= 0.97", "throughput_cpu", throughput("1m")),
    Row("throughput-10m", "the same: 10.6M parameters", ">= 0.97", "throughput_cpu", throughput("10m")),
    Row("throughput-50m", "the same: 51M parameters", ">= 0.97", "throughput_cpu", throughput("50m")),
    Row(
        "generation-1m",
        "generated tokens/s against Transformers' `generate`, one prompt, fp32: 1.2M parameters",
        ">= 1.5",
        "generation",
        generation("1m"),
    ),
    Row("generation-10m", "the same: 10.6M parameters", ">= 1.5", "generation", generation("10m")),
    Row("generation-124m", "the same: 124M parameters", ">= 1.5", "generation", generation("124m")),
    Row("loader", "loader alone, tokens/s per core; memory over 3 epochs", ">= 364,000; flat", "loader", loader),
    Row(
        "loader-cold",
        "loader tokens/s from an S3 server against the faster of mosaicml-streaming and litdata, empty cache",
        ">= 1.0",
        "loader_remote",
        loader_remote("cold"),
    ),
    Row("loader-warm", "the same with a warm cache", ">= 1.0", "loader_remote", loader_remote("warm")),
    Row(
        "seek",
        "from making a loader at step 1,000,000 to its first batch; slowest of one and three sources of 6 and "
        "10,000 shards",
        "< 50 ms",
        "seek",
        seek,
    ),
    Row(
        "logits-gpt2",
        "logits against Transformers, export and import: GPT-2",
        "<= 1e-4",
        "logits_parity",
        parity("gpt2"),
    ),
    Row("logits-llama", "the same: LLaMA", "<= 1e-4", "logits_parity", parity("llama")),
    Row("logits-neox", "the same: GPT-NeoX", "<= 1e-4", "logits_parity", parity("neox")),
    Row(
        "export-memory",
        "peak memory of `gpt-run checkpoints export` beyond the program's own, GPT-2 124M, over the model's bytes",
        "<= 0.75",
        "export_memory",
        export_memory,
    ),
    Row(
        "plan-flops",
        "what `gpt-run plan` says of all presets: parameters against the built model, FLOP against FlopCounterMode",
        "equal; within 1%",
        "plan_flops",
        plan_flops,
    ),
    Row(
        "plan-memory",
        "peak memory of a step against torch's FSDPMemTracker: all presets (2 blocks), shardings, recomputations",
        "within 10%",
        "plan_memory",
        plan_ratios("peaks"),
    ),
    Row(
        "plan-time",
        "time of a step on this machine, fitted on the tiny presets, for held-out models of 8M to 51M parameters",
        "within 15%",
        "plan_time",
        plan_ratios("models"),
    ),
    Row(
        "scaling-law",
        "validation loss that a law fitted to nine small runs foretells for a model three times as large",
        "within 3%",
        "scaling_law",
        scaling_law,
    ),
    Row("encoding", "text to ids, MB/s of one core", "same ids", "encoding", encoding),
    Row(
        "tokenise-and-write",
        "cleaned text on disk to hashed shards, MB/s per core against bare calls of the same engine: `tokenizers`",
        ">= 0.9",
        "tokenise_and_write",
        tokenise_and_write("tokenizers", bar=True),
    ),
    Row(
        "tokenise-and-write-fast",
        "the same: gigatoken, where its ids are proven equal",
        "",
        "tokenise_and_write",
        tokenise_and_write("gigatoken", bar=False),
    ),
    Row(
        "near-duplicates",
        "near-duplicate stage, documents/s against datasketch's MinHashLSH",
        ">= 10; recall and precision at most 0.01 below",
        "near_duplicates",
        near_duplicates,
    ),
    Row(
        "near-duplicates-memory",
        "its peak memory, all processes, on ten times as much text",
        "<= 1.2",
        "near_duplicates",
        near_duplicates_memory,
    ),
    Row(
        "prepare-memory",
        "peak memory of `gpt-run data prepare`, all processes, on ten times as much text",
        "<= 1.2",
        "prepare_memory",
        prepare_memory,
    ),
    Row(
        "whole-pipeline",
        "JSON lines to tokens, MB/s per core against datatrove: rules of Gopher and C4, MinHash, tokenizer",
        ">= 1.0",
        "whole_pipeline",
        whole_pipeline,
    ),
    Row(
        "operator-cpu",
        "operator with 1,000 runs, their jobs and live coordinators: cores",
        "< 1",
        "operator_load",
        operator_load("cores", "{cores:.2f} ({runs} runs, {pods} pods)"),
    ),
    Row(
        "operator-memory",
        "the same: memory",
        "< 500 MB",
        "operator_load",
        operator_load("megabytes", "{megabytes:.0f} MB, at most {most_megabytes:.0f}"),
    ),
    Row(
        "operator-writes",
        "the same: writes per run and status interval (30 s)",
        "<= 1",
        "operator_load",
        operator_load("writes_per_run_and_interval", "{writes_per_run_and_interval:.2f}"),
    ),
    Row(
        "operator-latency",
        "the same: from a change of a TrainingRun to that of its job, p99",
        "< 2 s",
        "operator_load",
        operator_load(
            "event_to_action_p99_seconds",
            "{event_to_action_p99_seconds:.2f} s (median {event_to_action_p50_seconds:.2f})",
        ),
    ),
    Row(
        "operator-kills",
        "operator killed at random moments while runs have trouble, by the API server's audit log",
        "no action lost, none done twice",
        "operator_kills",
        operator_kills,
    ),
    Row("make-run", "`make run`, second call", "< 180 s", "make_run", make_run),
    Row(
        "distillation",
        "validation loss of 2 layers of 64 taught by 4 of 128, less alone: 204,800 tokens, learning rate chosen "
        "equally, 3 seeds",
        "lower with each seed",
        "distillation",
        distillation,
    ),
]


if __name__ == "__main__":
    sys.exit(main())
