"""What fuzz tests feed to readers: whole files and documents with something changed, and anything at all.

Few examples each in `make test`; `pytest --hypothesis-profile=long tests/unit/fuzz` takes a hundred times as many.
"""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

few = settings(
    max_examples=settings.default.max_examples // 4 if settings.default else 25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["", "a0001", "NaN", "1e400", "²", "../..", "2026-01-01T00:00:00+00:00", -1, 10**30]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """A file with a few bits flipped, bytes put in or taken out, or its end cut off."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(len(data) - 1, 0)))
        # What headers are made of lies at both ends.
        place = draw(st.sampled_from([place, min(place, 40), max(len(data) - 1 - place % 64, 0)]))
        match draw(st.sampled_from(["flip", "set", "insert", "remove", "cut"])):
            case "flip" if data:
                data[place] ^= 1 << draw(st.integers(0, 7))
            case "set" if data:
                data[place : place + 4] = draw(st.sampled_from([b"\xff" * 4, b"\0" * 4, b"\x80\0\0\0", b"\0\0\0\x80"]))
            case "insert":
                data[place:place] = draw(st.binary(max_size=16))
            case "remove":
                del data[place : place + draw(st.integers(1, 16))]
            case "cut":
                del data[place:]
    return bytes(data)


@st.composite
def changed(draw: st.DrawFn, document: Any) -> Any:
    """A document with a few of its values replaced by anything, or keys taken out."""
    found = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(found))
        if not places:
            return draw(JSON)
        parent, key = draw(st.sampled_from(places))
        if draw(st.booleans()) and isinstance(parent, dict):
            del parent[key]
        else:
            parent[key] = draw(JSON)
    return found


def _places(value: Any) -> Any:
    """(container, key) of every value in it."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(items):
        yield value, key
        yield from _places(inner)
