"""Wikitext to plain text: each construct, and what no text may do."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.data.sources.wikitext import plain_text

CASES = {
    "bold and italic": ("'''Bold''' ''it'' '''''both''''' l''''Orient'''", "Bold it both l'Orient"),
    "link": ("a [[target]] and [[target|the label]]s", "a target and the labels"),
    "link without a label of its own": ("[[Paris (Texas)|]]", "Paris"),
    "link to a page about files": ("[[:Category:Birds]]", "Category:Birds"),
    "language": ("x[[de:Vogel]][[zh-min-nan:Chiáu]]", "x"),
    "sister project": ("[[wikt:bird|birds]]", "birds"),
    "category": ("[[Category:Birds|sort]]\ntext", "text"),
    "file": ("[[File:a.jpg|thumb|A [[bird]] of [http://x.org the [[web]]] [sic]]]text", "text"),
    "file in another language": ("[[Datei:a.jpg|mini]]text", "text"),
    "web link": (
        "see [http://x.org/a?b=c the site], [https://y.org] or https://z.org",
        "see the site, or https://z.org",
    ),
    "template": ("a{{cite|x={{y|[[z]]}}}} b", "a b"),
    "template over lines": ("{{Infobox\n| a = b\n|}}\ntext", "text"),
    "parameter": ("a {{{1|{{x}}}}}b {{{{x}}|y}}c", "a b c"),
    "table": ('before\n{| class="x"\n|-\n| a || [[b]]\n{|\n| inner\n|}\n|}\nafter', "before\nafter"),
    "indented table": ("before\n:{|\n| a\n|}\nafter", "before\nafter"),
    "html table": ("a<table><tr><td>b</td></tr></table>c", "ac"),
    "comment": ("a<!-- {{ [[ \n -->b<!-- no end", "ab"),
    "footnote": ('a<ref name="x">b [[c]]</ref><ref name=x/>d<REF>e</REF>', "ad"),
    "footnote with a template": ("a<ref>{{cite|b}}</ref>c", "ac"),
    "footnote in a template": ("a{{x|<ref>b}}c</ref>d", "ac</ref>d".replace("</ref>", "")),
    "gallery": ("a\n<gallery>\nFile:a.jpg|b\n</gallery>\nc", "a\n\nc"),
    "nowiki": ("<nowiki>[[a]] {{b}} ''c''</nowiki> d", "[[a]] {{b}} ''c'' d"),
    "formula": ("so <math>\\frac{{a}}{[b]} < c</math> holds", "so \\frac{{a}}{[b]} < c holds"),
    "code": ("<syntaxhighlight lang=c>\n# a[[0]]\n</syntaxhighlight>", "# a[[0]]"),
    "elements": ("<div class=x>a<br/>b</div><sup>2</sup> 1 < 2 > 0", "a\nb\n2 1 < 2 > 0"),
    "entities": ("a&nbsp;&rarr;&nbsp;b &amp;lt;", "a\xa0→\xa0b &lt;"),
    "lists": ("* a\n** b\n# c\n; d\n: e\n----\nf", "a\nb\nc\nd\ne\n\nf"),
    "switch": ("__NOTOC__a __b__", "a __b__"),
    "headings": ("x\n== A ==\ny\n=== B ===\nz", "x\nA\ny\nB\nz"),
    "heading of nothing": (
        "x\n== A ==\n=== B ===\ny\n== See ==\n{{list}}\n=== C ===\n== D ==\n* \n[[Category:E]]",
        "x\nA\nB\ny",
    ),
    "hole in a sentence": ("'''A''' ({{IPA|x}}, {{y}}; born 1900) was{{z}} . ({{w}}) B", "A (born 1900) was. B"),
    "blank lines": ("a  \n\n\n{{x}}\n\n b", "a\n\nb"),
    "unclosed": ("a {{b [[c <ref>d", "a {{b [[c d"),
    "closed twice": ("a}} b]] c|} d</ref>", "a}} b]] c|} d"),
    "not a link": ("[1] [ [x] ] [[a", "[1] [ [x] ] [[a"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_reader_sees(name: str) -> None:
    wikitext, expected = CASES[name]
    assert plain_text(wikitext, frozenset({"file", "category", "datei"})) == expected


SIGNS = "{{ }} {| |} [[ ]] | == '' <ref> </ref> <ref/> <!-- --> <nowiki> </nowiki> <table> </table> [ ] { } <br> ( *"
PIECES = st.sampled_from([*SIGNS.split(), "\n", " ", "* ", "word", "File:", "&lt;", "[http://x "])


@given(st.lists(PIECES, max_size=60).map("".join))
def test_any_text_is_taken_and_none_is_made_up(wikitext: str) -> None:
    text = plain_text(wikitext)
    assert text == text.strip()
    assert text.count("word") <= wikitext.count("word")


@given(
    st.recursive(
        st.just("in"), lambda inner: st.lists(inner, max_size=3).map(lambda items: "{{a|" + "{{b}}".join(items) + "}}")
    )
)
def test_balanced_templates_leave_nothing(template: str) -> None:
    assert plain_text(f"before {template}after") == ("before after" if template != "in" else "before inafter")


@pytest.mark.parametrize(
    "piece",
    ["{{", "[[", "<ref>", "<!--", "{|\n", "[[a|", "<nowiki>", "'", "(", "[http://x ", "}}", "[", "=\n", "<", " "],
)
def test_time_grows_with_the_text_and_not_with_its_square(piece: str) -> None:
    # A pass that looks for every end from every start would take minutes here.
    plain_text(piece * 100_000)
