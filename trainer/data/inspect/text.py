"""The report for a terminal: tables and bars that fit into 80 columns. Called by `gpt-run data inspect`."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from trainer.data.inspect.report import IdCount, Lengths, Report, Sample, Split
from trainer.data.inspect.wording import (
    bucket_label,
    id_ranges,
    is_sample,
    kept,
    repeats_line,
    scope,
    token_word,
    tokenizer_words,
    use_of_ids,
)
from trainer.pages.terminal import fit, make_table, say, show, title
from trainer.pages.wording import percent, size, visible

_BAR_COLUMNS = 36
_LISTED_IDS = 10
_LISTED_RANGES = 8
_SAMPLE_CHARACTERS = 480
_SAMPLE_LINES = 8
_REPEATED_CHARACTERS = 60


def print_report(report: Report, console: Console) -> None:
    """Print on `console`, as wide as it is but not wider than reads well."""
    fit(console)
    _print_head(report, console)
    _print_splits(report, console)
    _print_filters(report, console)
    for split in report.splits:
        if split.read.tokens:
            _print_split(split, console)
    if is_sample(report):
        say(console, "Lengths, vocabulary and repeats are those of a sample; --full reads all.")


def _print_head(report: Report, console: Console) -> None:
    facts = {
        "prepared": report.created_at,
        "fingerprint": report.fingerprint,
        "tokenizer": tokenizer_words(report.tokenizer),
        "verified": None
        if report.verified_shards is None
        else f"{report.verified_shards} shards have the hash that dataset.json says",
    }
    say(console, f"{report.path}: {report.name or 'raw token files'}", style="bold")
    for name, fact in facts.items():
        if fact is not None:
            say(console, f"{name:<12} {fact}", indent=2)
    for source in report.sources:
        say(console, f"{'source':<12} {', '.join(f'{key} {value}' for key, value in source.items())}", indent=2)


def _print_splits(report: Report, console: Console) -> None:
    console.print()
    table = make_table("split", ">tokens", ">documents", ">shards", ">size", ">bytes/token", "figures from")
    for split in report.splits:
        table.add_row(
            visible(split.name),
            f"{split.tokens:,}",
            "-" if split.documents is None else f"{split.documents:,}",
            f"{split.shards:,}",
            size(split.token_bytes),
            "-" if split.bytes_per_token is None else f"{split.bytes_per_token:.2f}",
            "nothing: empty" if not split.tokens else "all" if split.read.complete else percent(split.read.share),
        )
    show(console, table)


def _print_filters(report: Report, console: Console) -> None:
    summary = kept(report)
    if summary is None:
        return
    title(console, f"Filters: {summary}")
    table = make_table("filter", ">seen", ">dropped", ">share")
    for one in report.filters:
        table.add_row(visible(one.name), f"{one.seen:,}", f"{one.dropped:,}", percent(one.share))
    show(console, table)


def _print_split(split: Split, console: Console) -> None:
    console.print()
    console.rule(Text(f"{split.name}: {scope(split)}"), align="left", style="dim")
    if split.lengths is not None:
        _print_lengths(split.lengths, console)
    if split.vocabulary is not None:
        title(console, "Vocabulary")
        for line in use_of_ids(split.vocabulary):
            say(console, line, indent=2)
        if split.vocabulary.never_used_ids:
            say(console, f"never used: {id_ranges(split.vocabulary, _LISTED_RANGES)}", indent=2)
        _print_ids(split.vocabulary.most_used, split.vocabulary.least_used, console)
    _print_repeats(split, console)
    if split.samples:
        title(console, "Samples")
    for sample in split.samples:
        _print_sample(sample, console)


def _print_lengths(lengths: Lengths, console: Console) -> None:
    title(console, "Documents by length in tokens")
    table = make_table(">shortest", ">5%", ">25%", ">median", ">75%", ">95%", ">99%", ">longest", ">mean")
    points = (lengths.p5, lengths.p25, lengths.p50, lengths.p75, lengths.p95, lengths.p99)
    table.add_row(*(f"{value:,}" for value in (lengths.shortest, *points, lengths.longest)), f"{lengths.mean:,.1f}")
    show(console, table)
    table = make_table(">tokens", ">documents", ">share", "")
    documents = sum(bucket.documents for bucket in lengths.histogram)
    most = max(bucket.documents for bucket in lengths.histogram)
    for bucket in lengths.histogram:
        # What there is should be seen, however little it is.
        bar = "█" * max(round(_BAR_COLUMNS * bucket.documents / most), min(bucket.documents, 1))
        table.add_row(bucket_label(bucket), f"{bucket.documents:,}", percent(bucket.documents / documents), bar)
    show(console, table)


def _print_ids(most: tuple[IdCount, ...], least: tuple[IdCount, ...], console: Console) -> None:
    table = make_table(">most used", "", ">share", ">rarest", "", ">times")
    for index in range(min(_LISTED_IDS, len(most))):
        common, rare = most[index], least[index]
        table.add_row(
            str(common.id),
            Text(token_word(common.token), overflow="ellipsis", no_wrap=True),
            percent(common.share),
            str(rare.id),
            Text(token_word(rare.token), overflow="ellipsis", no_wrap=True),
            f"{rare.count:,}",
        )
    show(console, table)


def _print_repeats(split: Split, console: Console) -> None:
    if split.repeats is None:
        return
    title(console, "Repeats")
    say(console, repeats_line(split.repeats), indent=2)
    for one in split.repeats.most_repeated:
        text = one.sample.text if one.sample.text is not None else " ".join(map(str, one.sample.ids))
        words = " ".join(text.split())
        excerpt = words[:_REPEATED_CHARACTERS] + ("..." if len(words) > _REPEATED_CHARACTERS else "")
        say(console, f"{one.times:,} times, {one.sample.tokens:,} tokens: {excerpt}", indent=2)
    if split.also_in_train is not None:
        overlap = split.also_in_train
        say(
            console,
            f"{overlap.found:,} of {overlap.documents:,} documents ({percent(overlap.share)}) are also in train",
            indent=2,
        )


def _print_sample(sample: Sample, console: Console) -> None:
    what = f"token {sample.start:,}" if sample.document is None else f"document {sample.document:,}"
    say(console, f"{sample.shard}, {what}, {sample.tokens:,} tokens:", indent=2, style="dim")
    if sample.text is None:
        text, is_cut = " ".join(map(str, sample.ids)), sample.tokens > len(sample.ids)
    else:
        shown = sample.text.replace("\r\n", "\n")
        text = "\n".join(shown[:_SAMPLE_CHARACTERS].split("\n")[:_SAMPLE_LINES])
        is_cut = sample.cut or len(text) < len(shown)
    say(console, text.rstrip() + (" ..." if is_cut else ""), indent=4)
