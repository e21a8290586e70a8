"""What the report of each benchmark says: the figure of a row of the README's table, and whether it is enough.

A function here reads one script's JSON, or makes such a function for one part of it. Called by `benchmarks.rows`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Report = dict[str, Any]
Figure = Callable[[Report], tuple[str, bool]]


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


def extra_time(kind: str, *, bar: bool) -> Figure:
    def figure(report: Report) -> tuple[str, bool]:
        extra = report[f"{kind}_extra_ratio"]
        took = report[f"{kind}_save_seconds"]
        return f"{extra:.1%}; the save took {took:.0f} s", not bar or extra < report["bar_extra_ratio"]

    return figure


def transfer(direction: str) -> Figure:
    def figure(report: Report) -> tuple[str, bool]:
        ratio, rate = report[f"{direction}_ratio"], report[f"{direction}_megabytes_per_second"]
        return f"{ratio:.2f} ({rate:,.0f} MB/s)", ratio >= 0.8

    return figure


def throughput(size: str) -> Figure:
    def figure(report: Report) -> tuple[str, bool]:
        result = report["results"][size]
        accelerate, plain = result["ratio"]["accelerate"], result["ratio"]["plain"]
        rate = result["tokens_per_second"]["gpt-run"]
        return (
            f"{accelerate:.2f} and {plain:.2f} ({rate:,.0f} tokens/s)",
            result["ratio_to_faster"] >= report["bar_ratio"],
        )

    return figure


def generation(size: str) -> Figure:
    def figure(report: Report) -> tuple[str, bool]:
        result = report["results"][size]
        rate = result["tokens_per_second"]["gpt-run"]
        return f"{result['ratio']:.2f} ({rate:,.0f} tokens/s)", result["ratio"] >= report["bar_ratio"]

    return figure


def loader(report: Report) -> tuple[str, bool]:
    slowest = min(result["tokens_per_second_per_core"] for result in report["results"])
    growth = max(result["memory_mb_per_epoch"][-1] - result["memory_mb_per_epoch"][0] for result in report["results"])
    return f"{slowest:,.0f}; {growth:+.1f} MB", slowest >= report["bar_tokens_per_second_per_core"]


def loader_remote(mode: str) -> Figure:
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


def plan_ratios(what: str) -> Figure:
    def figure(report: Report) -> tuple[str, bool]:
        ratios = [result["ratio"] for result in report["results"]]
        worst = max(abs(ratio - 1) for ratio in ratios)
        return f"{len(ratios)} {what}: {min(ratios):.3f} to {max(ratios):.3f} of it", worst <= report["bar"]

    return figure


def parity(family: str) -> Figure:
    def figure(report: Report) -> tuple[str, bool]:
        results = [result for result in report["results"] if result["model"].split(",")[0] == family]
        exported, imported = (max(result[way] for result in results) for way in ("export", "import"))
        return f"{exported:.0e}, {imported:.0e}", max(exported, imported) <= report["bar"]

    return figure


def make_run(report: Report) -> tuple[str, bool]:
    return f"{report['seconds']:.0f} s", report["seconds"] < report["bar_seconds"]


def recovery(event: str) -> Figure:
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


def scrape(ranks: int) -> Figure:
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


def tokenise_and_write(engine: str, *, bar: bool) -> Figure:
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


def operator_load(key: str, text: str) -> Figure:
    def figure(report: Report) -> tuple[str, bool]:
        return text.format(**report), report[key] <= report["bars"][key]

    return figure


def operator_kills(report: Report) -> tuple[str, bool]:
    figure = f"{report['kills']} kills, {report['wanted']} actions: {report['lost']} lost, {report['doubled']} doubled"
    return figure, report["lost"] == report["doubled"] == 0


def coordinator_load(key: str, text: str) -> Figure:
    def figure(report: Report) -> tuple[str, bool]:
        result = report["results"]["1024"]
        return text.format(**result), result[key] <= report["bars"][key]

    return figure


def rank_setup(report: Report) -> tuple[str, bool]:
    result = next(result for result in report["results"] if result["world_size"] == 1024)
    figure = (
        f"{result['parameter_ratio']:.3f} and {result['optimizer_ratio']:.3f} ({result['parameter_bytes'] / 1e6:.1f} "
        f"and {result['optimizer_bytes'] / 1e6:.1f} MB); {result['seconds']:.0f} s, peak "
        f"{result['peak_megabytes']:.0f} MB"
    )
    return figure, max(result["parameter_ratio"], result["optimizer_ratio"]) <= report["bar_ratio"]


def checkpoint_metadata(shard: str) -> Figure:
    def figure(report: Report) -> tuple[str, bool]:
        result = next(row for row in report["results"] if row["world_size"] == 1024 and row["shard"] == shard)
        made = result["global_seconds"] + result["write_seconds"]
        text = f"{result['metadata_bytes'] / 1e6:.1f} MB; made in {made:.1f} s, read in {result['read_seconds']:.1f} s"
        return text, True

    return figure


def data_order_scale(report: Report) -> tuple[str, bool]:
    last = report["results"][-1]
    exact = report["epoch_is_exact"] and not any(row["twice"] or row["missing"] for row in report["results"])
    figure = (
        f"{last['median_seconds'] * 1e3:.1f} ms, a new loader {last['first_seconds'] * 1e3:.0f} ms; "
        f"{'each once' if exact else 'not each once'}"
    )
    return figure, exact and last["median_seconds"] < report["bar_seconds"]


def goodput_scale(report: Report) -> tuple[str, bool]:
    ours, first_order = (
        max(abs(row[kind] - row["simulated"]) for row in report["results"]) for kind in ("planned", "first_order")
    )
    figure = f"{len(report['results'])} runs: within {ours:.3f} (to first order {first_order:.3f})"
    return figure, ours <= report["bar"]


def distillation(report: Report) -> tuple[str, bool]:
    alone, taught = (report["sides"][side]["losses"] for side in ("alone", "taught"))
    mean = sum(report["differences"]) / len(report["differences"])
    figure = (
        f"{mean:+.3f} nats on average ({sum(taught) / len(taught):.3f} against {sum(alone) / len(alone):.3f}; the "
        f"teacher has {report['teacher_loss']:.3f})"
    )
    return figure, max(report["differences"]) < 0
