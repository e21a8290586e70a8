"""What can run code or write where an archive says is called nowhere but in the places named here, with the reason."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = [
    file for part in ("trainer", "operators", "charts", "images") for file in sorted((ROOT / part).rglob("*.py"))
]
# Pickles between a driver and its own workers, which never lie in a store.
OWN_PICKLES = {"trainer/ray/stages.py"}
FORBIDDEN = {
    "eval",
    "exec",
    "os.system",
    "os.popen",
    "marshal.loads",
    "shelve.open",
    "tarfile.open",
    "shutil.unpack_archive",
    "yaml.load",
    "yaml.unsafe_load",
    "yaml.full_load",
    "yaml.load_all",
    "joblib.load",
}


def calls(file: Path) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def unsafe(name: str, call: ast.Call) -> bool:
    """Whether a call may do more than read values."""
    options = {word.arg: ast.unparse(word.value) for word in call.keywords}
    return (
        name in FORBIDDEN
        or name.rpartition(".")[2] in ("extractall", "extract_all")
        or options.get("shell") == "True"
        or (name == "torch.load" and options.get("weights_only") != "True")
        or (name.endswith(".load") and options.get("allow_pickle") == "True")
        or options.get("trust_remote_code", "False") != "False"
        or (name.endswith("YAML") and options.get("typ") == "'unsafe'")
    )


def test_nothing_unsafe_is_called() -> None:
    found = [
        f"{file.relative_to(ROOT)}:{call.lineno}: {name}"
        for file in SOURCES
        for name, call in calls(file)
        if unsafe(name, call)
    ]
    assert found == []


def test_pickles_are_read_in_known_places_only() -> None:
    """Elsewhere by readers of our own, which look up no name that they do not know (unpickling.py, meta_pkl.py)."""
    readers = {"pickle.load", "pickle.loads", "pickle.Unpickler"}
    found = {str(file.relative_to(ROOT)) for file in SOURCES for name, _ in calls(file) if name in readers}
    assert found == OWN_PICKLES


def test_this_test_sees_what_it_looks_for() -> None:
    for line in (
        "eval(x)",
        "archive.extractall(y)",
        "run(a, shell=True)",
        "torch.load(x)",
        "torch.load(x, weights_only=False)",
        "np.load(x, allow_pickle=True)",
        "AutoModel.from_pretrained(x, trust_remote_code=True)",
        "YAML(typ='unsafe')",
    ):
        call = ast.parse(line).body[0].value  # type: ignore[attr-defined]
        assert unsafe(ast.unparse(call.func), call), line
