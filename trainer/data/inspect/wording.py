"""How figures and pieces of data are written for people: shared by `text` and `html`. Pure."""

from __future__ import annotations

import json
import re

from trainer.data.inspect.report import Bucket, Repeats, Report, Split, Tokenizer, Vocabulary

# What would act on a terminal or hide in a page: control characters but new lines and tabs, and marks that turn the
# direction of the text around them.
_ACTING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def visible(text: str) -> str:
    """Text with what would act on a terminal written out, as in \\x1b."""
    return _ACTING.sub(lambda found: found[0].encode("unicode_escape").decode(), text.replace("\r\n", "\n"))


def token_word(token: str | None) -> str:
    """A token in quotes, spaces and new lines seen."""
    return "" if token is None else visible(json.dumps(token, ensure_ascii=False))


def percent(share: float) -> str:
    """A share to two digits, without hiding what is not quite nothing or all."""
    if share and share < 0.0001:
        return "<0.01%"
    if share < 1 and share > 0.9999:
        return ">99.99%"
    return f"{100 * share:.1f}%" if share >= 0.1 else f"{100 * share:.2f}%"


def size(num_bytes: int) -> str:
    """Bytes in decimal units."""
    value = float(num_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


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
