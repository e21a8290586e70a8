"""Planted mistakes in pages: each is found, with file and line; what is right, or a placeholder, is let through."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from docs.check.commands import check_commands
from docs.check.documented import check_documented, says_nothing
from docs.check.keys import assigned, missing_key
from docs.check.links import check_links
from docs.check.pages import Tree, anchor

FILES = {
    "Makefile": "N ?= 1\nrun:  ## Train\n\techo $(N)\nbare:\n\techo\n",
    "docs/other.md": "# One heading, with `code`\n\n# Twice\n\n# Twice\n",
    "benchmarks/speed.py": 'import argparse\n\nparser = argparse.ArgumentParser()\nparser.add_argument("--rounds")\n',
    "tests/test_a.py": "def test_b() -> None: ...\n",
    "trainer/presets/tiny-gpt2.yaml": "",
    "trainer/presets/data/python-library.yaml": "",
    "charts/small/Chart.yaml": "",
    "charts/small/values.schema.json": json.dumps(
        {"properties": {"run": {"properties": {"steps": {"type": "integer"}}}}, "additionalProperties": False}
    ),
}


def tree(root: Path, page: str) -> Tree:
    """A project whose page docs/page.md is `page`."""
    files = FILES | {"docs/page.md": page}
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return Tree(root, list(files))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("[a](gone.md)", "docs/gone.md is not tracked"),
        ("![a](gone.png)", "docs/gone.png is not tracked"),
        ("[a](other.md#three)", "no heading of that name"),
        ("[a](other.md#twice-2)", "no heading of that name"),
        ("[a](#three)", "no heading of that name"),
        ("[a](https://localhost)", "link to https://localhost"),
        ("`tests/gone.py` is named", "did you mean `tests/test_a.py`"),
        ("`charts/small/values-*.yaml`", "charts/small/values-*.yaml is named"),
    ],
)
def test_a_dead_link_is_found(tmp_path: Path, text: str, found: str) -> None:
    # After a code span that a line break splits, a line is still the line in the file.
    (finding,) = check_links(tree(tmp_path, f"# Title\n\nWords and `a\nspan` and\n{text}.\n"))
    assert (finding.path, finding.line) == ("docs/page.md", 5)
    assert found in str(finding)


@pytest.mark.parametrize(
    "text",
    [
        "[a](other.md#one-heading-with-code) [b](other.md#twice-1) [c](../benchmarks) [d](#title) [e](https://a.org/b#c)",
        "`docs/NAME.md` `charts/small/values.*` `tests/test_a.py::test_b` `pods/log` `benchmarks/` `data/raw`",
    ],
)
def test_a_live_link_is_let_through(tmp_path: Path, text: str) -> None:
    assert list(check_links(tree(tmp_path, f"# Title\n\n{text}\n"))) == []


@pytest.mark.parametrize(
    ("command", "found"),
    [
        ("gpt-run trian tiny-gpt2", "did you mean `train`"),
        ("gpt-run data prepear python-library", "did you mean `prepare`"),
        ("gpt-run train tiny-gpt2 --nprocs 2", "--nprocs"),
        ("gpt-run preflight tiny-gpt2 --ranks two", "--ranks"),
        ("gpt-run train tiny-gpt2 --nnodes MIN:MAX --nproc N --nprocs 2", "--nprocs"),
        ("gpt-run checkpoints export RUN --format onyx", "--format"),
        ("gpt-run train", "Missing argument"),
        ("gpt-run train tiny-gpt2 other", "unexpected extra argument"),
        ("gpt-run train tiny-gtp2", "did you mean `tiny-gpt2`"),
        ("gpt-run data prepare python-libary", "did you mean `python-library`"),
        ("gpt-run train tiny-gpt2 --set optimizer.lrr=1", "`optimizer.lrr`"),
        ("gpt-run sweep tiny-gpt2 --over optimizer.lrr=1,2", "`optimizer.lrr`"),
        ("A=1 .venv/bin/gpt-run plan x.yaml && gpt-run plam x.yaml", "did you mean `plan`"),
        ("make rum", "did you mean `run`"),
        ("make run M=2", "make M=2"),
        ("python -m benchmarks.sped", "python -m benchmarks.sped"),
        ("python -m benchmarks.speed --round 3", "did you mean `--rounds`"),
        ("python benchmarks/gone.py", "python benchmarks/gone.py"),
        ("pytest tests/test_c.py", "tests/test_c.py"),
        ("python -m pytest tests/test_a.py::test_c", "did you mean `test_b`"),
        ("helm install a charts/smal", "charts/smal"),
        ("helm install a charts/small --set run.steps=1,run.step=2", "`run.step`; did you mean `steps`"),
    ],
)
def test_a_stale_command_is_found(tmp_path: Path, command: str, found: str) -> None:
    # The line of a command is where it begins, continued lines before it or not.
    (finding,) = check_commands(tree(tmp_path, f"```sh\ngpt-run plan \\\n  x.yaml\n{command}  # isn't\n```\n"))
    assert (finding.path, finding.line) == ("docs/page.md", 4)
    assert found in str(finding)


@pytest.mark.parametrize(
    ("span", "found"),
    [
        ("gpt-run job submit|logz NAME", "gpt-run job logz"),
        ("gpt-run train RUN [--nprocs N]", "--nprocs"),
        ("--nprocs", "did you mean `--nproc`"),
        ("--set optimizer.lrr=1", "optimizer.lrr"),
    ],
)
def test_a_stale_synopsis_is_found(tmp_path: Path, span: str, found: str) -> None:
    (finding,) = check_commands(tree(tmp_path, f"# Title\n\nOne has\n`{span}`.\n"))
    assert (finding.path, finding.line) == ("docs/page.md", 4)
    assert found in str(finding)


def test_what_is_right_or_a_placeholder_is_let_through(tmp_path: Path) -> None:
    page = """
`gpt-run job submit|logs NAME`, `gpt-run train RUN [--nproc N] [--set k=v]`, `gpt-run plan --law`, `gpt-run data`,
`make run`, `python -m http.server`, `--set run.steps=1`, `--set @FILE`, `helm install`, `helm install a other/chart`.

```sh
gpt-run train tiny-gpt2 --nproc $N --set 'trackers=[{type: wandb, mode: offline}]' > log 2>&1 &
gpt-run train runs/mine.yaml --set ...
make run N=3
python -m benchmarks.speed --rounds 3
```
"""
    assert list(check_commands(tree(tmp_path, page))) == []


def test_undocumented_things_are_found(tmp_path: Path) -> None:
    page = "| key | meaning |\n| --- | --- |\n| `a.steps` | how many |\n| `a.name` | Its name. |\n| `b` | |\n"
    found = {(finding.path, finding.line) for finding in check_documented(tree(tmp_path, page))}
    assert found == {("docs/page.md", 4), ("docs/page.md", 5), ("benchmarks/speed.py", 4), ("Makefile", 4)}


def test_a_finding_says_what_to_do(tmp_path: Path) -> None:
    (finding,) = check_links(tree(tmp_path, "[a](gone.md)\n"))
    assert [line.split(":")[0].strip() for line in str(finding).splitlines()] == ["docs/page.md", "expected", "to do"]


@pytest.mark.parametrize(("name", "text"), [("batchSize", "The batch size."), ("a.name", "NAME."), ("x", "")])
def test_a_text_of_the_names_words_says_nothing(name: str, text: str) -> None:
    assert says_nothing(name, text)
    assert not says_nothing(name, "Sequences of one step.")


def test_anchors_are_those_of_github() -> None:
    used: Counter[str] = Counter()
    names = [anchor(heading, used) for heading in ("What's a.b, -- c_d?", "Über 1.5", "Twice", "Twice")]
    assert names == ["whats-ab----c_d", "über-15", "twice", "twice-1"]


def test_keys_are_read_out_of_what_is_set() -> None:
    words = [
        "--set",
        "log.every=1,data.of={x,y=z}",
        "--set=steps=2",
        "--set",
        "@FILE",
        "--set",
        "KEY=VALUE",
        "--other",
        "g=1",
    ]
    assert list(assigned(words, ("--set",))) == ["log.every", "data.of", "steps"]


def test_a_key_is_looked_up_in_every_arm() -> None:
    schema = {
        "properties": {"a": {"anyOf": [{"$ref": "#/$defs/A"}, {"type": "null"}]}, "free": {"type": "object"}},
        "$defs": {"A": {"properties": {"list": {"type": "array", "items": {"properties": {"leaf": {}}}}}}},
    }
    assert missing_key(schema, "a.list.0.leaf") == ""
    assert missing_key(schema, "free.what.ever") == ""
    assert missing_key(schema, "a.list.0.laef") == "`a.list.0.laef`; did you mean `leaf`?"
