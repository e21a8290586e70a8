"""Normalise a text: one spelling of each character, no invisible ones, one kind of line end and of blank.

The first step of a pipeline, so that filters and duplicate search see what a reader sees. What carries meaning stays:
indentation, runs of spaces inside a line, tabs, joiners of Indic and Persian script and of emoji. Applying it twice
changes nothing more.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Any, Literal

from trainer.data.clean.base import Drop, Step
from trainer.extras import needs

_LINE_ENDS = re.compile("[\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
# Controls but tab and line feed; soft hyphen, zero-width space, word joiner, byte order mark, interlinear marks.
_INVISIBLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u200b\u2060\ufeff\ufff9-\ufffb]")
_BLANKS = re.compile("[\xa0\u1680\u2000-\u200a\u202f\u205f\u3000]")
_SURROGATES = re.compile("[\ud800-\udfff]")
_MANY_BLANK_LINES = re.compile("\n{3,}")


class Normalise(Step):
    """Unify characters, controls, line ends and white space."""

    type: Literal["normalise"]
    unicode: Literal["nfc", "nfkc", "none"] = "nfc"
    """Unicode normalisation form (UAX 15). nfc changes nothing that can be seen; nfkc also turns ligatures, full-width
    and superscript characters into plain ones."""
    mojibake: bool = False
    """Repair UTF-8 that was decoded as another encoding, with ftfy. Slow on text that needs it: 1 MB/s."""
    control_characters: bool = True
    """Remove control and invisible characters; turn other line ends into line feeds, lone surrogates into U+FFFD."""
    white_space: bool = True
    """Turn other blanks into spaces, cut those at ends of lines, keep one empty line of several, none at the ends."""

    def rules(self) -> tuple[str, ...]:
        """Names of the rules that can drop a document."""
        return ("normalise.empty",)

    def apply(self, text: str) -> str | Drop:
        """The normalised text; dropped where nothing but white space is left."""
        if self.mojibake and not text.isascii():
            fixer, config = _ftfy()
            # What is quick to see of all of a text spares most of them the slow look at each line.
            if fixer.badness.is_bad(text):
                text = fixer.fix_text(text, config)
        if self.control_characters:
            text = _INVISIBLE.sub("", _LINE_ENDS.sub("\n", text.replace("\r\n", "\n")))
            if not text.isascii():
                text = _SURROGATES.sub("\N{REPLACEMENT CHARACTER}", text)
        if self.unicode != "none" and not text.isascii():
            text = unicodedata.normalize("NFC" if self.unicode == "nfc" else "NFKC", text)
        if self.white_space:
            text = _tidy(text)
        return text if text and not text.isspace() else Drop("normalise.empty")

    def method(self) -> str:
        """The version of ftfy, where it is used."""
        return f"ftfy {_ftfy()[0].__version__}" if self.mojibake else ""


def _tidy(text: str) -> str:
    if not text.isascii():
        text = _BLANKS.sub(" ", text)
    text = "\n".join([line.rstrip(" \t") for line in text.split("\n")]).strip("\n")
    return _MANY_BLANK_LINES.sub("\n\n", text) if "\n\n\n" in text else text


@lru_cache(maxsize=1)
def _ftfy() -> tuple[Any, Any]:
    """The module, and its settings with everything but the repair of encodings switched off."""
    with needs("data", "normalise with `mojibake: true`"):
        import ftfy as fixer
    config = fixer.TextFixerConfig(
        unescape_html=False,
        remove_terminal_escapes=False,
        fix_latin_ligatures=False,
        fix_character_width=False,
        uncurl_quotes=False,
        fix_line_breaks=False,
        remove_control_chars=False,
        normalization=None,
        explain=False,
    )
    return fixer, config
