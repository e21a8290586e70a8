"""How figures and text from elsewhere are written for people, on pages and terminals alike. Pure."""

from __future__ import annotations

import re

# What would act on a terminal or hide in a page: control characters but new lines and tabs, and marks that turn the
# direction of the text around them.
_ACTING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def visible(text: str) -> str:
    """Text with what would act on a terminal written out, as in \\x1b."""
    return _ACTING.sub(lambda found: found[0].encode("unicode_escape").decode(), text.replace("\r\n", "\n"))


def percent(share: float) -> str:
    """A share to two digits, without hiding what is not quite nothing or all."""
    if share and share < 0.0001:
        return "<0.01%"
    if share < 1 and share > 0.9999:
        return ">99.99%"
    return f"{100 * share:.1f}%" if share >= 0.1 else f"{100 * share:.2f}%"


def size(num_bytes: float) -> str:
    """Bytes in decimal units."""
    value = float(num_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"
