"""How figures and pieces of data are written for people: shared by `text` and `html`. Pure."""

from __future__ import annotations

import json

from trainer.data.inspect.report import Bucket, Repeats, Report, Split, Tokenizer, Vocabulary
from trainer.pages.wording import percent, visible


def token_word(token: str | None) -> str:
    """A token in quotes, spaces and new lines seen."""
    return "" if token is None else visible(json.dumps(token, ensure_ascii=False))


def bucket_label(bucket: Bucket) -> str:
    """`4` or `4 to 7`."""
    return f"{bucket.start:,}" if bucket.stop - bucket.start == 1 else f"{bucket.start:,} to {bucket.stop - 1:,}"


def scope(split: Split) -> str:
    """How much of a split the figures come from."""
    read = split.read
    if read.complete:
        return "all tokens"
    shards = f"{read.shards:,} of {split.shards:,} shards, " if split.shards > 1 else ""
    return f"a sample: {shards}{percent(read.share)} of the tokens"


def is_sample(report: Report) -> bool:
    """Whether some figures come from a part of the tokens."""
    return not all(split.read.complete for split in report.splits)


def tokenizer_words(tokenizer: Tokenizer | None) -> str:
    """The tokenizer in a line."""
    if tokenizer is None:
        return "unknown"
    end = "" if tokenizer.eos_id is None else f", documents end with id {tokenizer.eos_id}"
    return f"{tokenizer.name}, {tokenizer.vocab_size:,} ids{end}"


def kept(report: Report) -> str | None:
    """What all filters together left; None without filters."""
    if not report.filters or not report.filters[0].seen:
        return None
    seen, last = report.filters[0].seen, report.filters[-1]
    stay = last.seen - last.dropped
    return f"{stay:,} of {seen:,} documents stay ({percent(stay / seen)})"


def use_of_ids(vocabulary: Vocabulary) -> list[str]:
    """Vocabulary use in sentences."""
    if vocabulary.size is None or vocabulary.never_used is None:
        lines = [
            f"{vocabulary.used:,} ids occur, the largest is {vocabulary.largest_id:,}; nothing says how many exist"
        ]
    else:
        share = percent(vocabulary.used / vocabulary.size)
        lines = [f"{vocabulary.used:,} of {vocabulary.size:,} ids occur ({share}), {vocabulary.never_used:,} never do"]
    lines.append(f"{vocabulary.used_once:,} occur once, {vocabulary.used_below_100:,} fewer than 100 times")
    lines.append(
        f"{vocabulary.ids_for_50_percent:,} ids make up 50% of the tokens, {vocabulary.ids_for_90_percent:,} 90%, "
        f"{vocabulary.ids_for_99_percent:,} 99%; entropy {vocabulary.entropy_bits:.2f} bits"
    )
    return lines


def id_ranges(vocabulary: Vocabulary, most: int) -> str:
    """`3 to 7, 12`, at most so many ranges."""
    ranges = vocabulary.never_used_ids
    words = [f"{first}" if first == last else f"{first} to {last}" for first, last in ranges[:most]]
    more = f" and {len(ranges) - most:,} more ranges" if len(ranges) > most else ""
    return ", ".join(words) + more


def repeats_line(repeats: Repeats) -> str:
    """Exact repeats in a sentence."""
    those = "" if repeats.one_in == 1 else f", of one in {repeats.one_in} contents"
    return (
        f"{repeats.repeats:,} of {repeats.documents:,} documents ({percent(repeats.share)}) "
        f"repeat an earlier one token by token{those}"
    )
