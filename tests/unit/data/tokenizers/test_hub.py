"""Tokenizers of the Hugging Face Hub: from its cache without a connection, and from a server that answers like it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from tokenizers import Tokenizer

from trainer.data.tokenizers.config import HuggingFaceTokenizer, Style, load_with_names
from trainer.errors import UserError

constants = pytest.importorskip("huggingface_hub.constants", reason="huggingface_hub is not installed")

COMMIT = "0123456789abcdef0123456789abcdef01234567"
# Of a file's URL.
RESOLVE = "/{repo_id}/resolve/{revision}/{filename}"
Load = Callable[..., dict[str, object]]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Load:
    """Loads a tokenizer with a cache of its own; the client reads its variables only when it is imported."""

    def once(home: Path, name: str, revision: str = "main", *, hub: str | None = None) -> dict[str, object]:
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", hub is None)
        monkeypatch.setattr(constants, "ENDPOINT", hub)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", f"{hub}{RESOLVE}")
        loaded = load_with_names(HuggingFaceTokenizer(type="huggingface", name=name, revision=revision))
        return {"size": loaded.tokenizer.get_vocab_size(), "named": loaded.named, "record": loaded.record}

    return once


@pytest.fixture
def cache(tmp_path: Path, trained: dict[Style, Tokenizer]) -> Path:
    """A cache as the library lays it out, with one tokenizer in it."""
    model = tmp_path / "hub" / "models--org--name"
    snapshot = model / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    trained["llama"].save(str(snapshot / "tokenizer.json"))
    (snapshot / "tokenizer_config.json").write_text('{"bos_token": "<s>", "eos_token": "</s>"}')
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text(COMMIT)
    return tmp_path


def test_the_cache_is_enough_without_a_connection(cache: Path, load: Load) -> None:
    found = load(cache, "org/name")
    assert found["size"] == 2000
    assert found["named"] == {"bos_token": "<s>", "eos_token": "</s>"}
    assert found["record"] == {"type": "huggingface", "name": "org/name", "revision": "main", "commit": COMMIT}
    assert load(cache, "org/name", COMMIT) == found | {
        "record": {"type": "huggingface", "name": "org/name", "revision": COMMIT, "commit": COMMIT}
    }


def test_what_the_cache_lacks_is_named(cache: Path, load: Load) -> None:
    with pytest.raises(UserError, match=r"org/other: tokenizer.json of revision main is not in the cache") as caught:
        load(cache, "org/other")
    assert "HF_HUB_OFFLINE" in caught.value.fix


class Hub(BaseHTTPRequestHandler):
    """Answers as the Hub does: files of org/name, a gated and a missing repository, one without tokenizer.json."""

    content: bytes

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        headers = {"X-Repo-Commit": COMMIT, "ETag": '"1"'}
        match self.path.split("?")[0].split("/"):
            case ["", "org", "name", "resolve", _, "tokenizer.json"]:
                self.reply(200, headers, self.content if body else b"", len(self.content))
            case ["", "org", "gated", *_]:
                self.reply(403, {"X-Error-Code": "GatedRepo"})
            case ["", "org", "name" | "slow", "resolve", "main", _]:
                self.reply(404, {"X-Error-Code": "EntryNotFound", **headers})
            case ["", "org", "name" | "slow", *_]:
                self.reply(404, {"X-Error-Code": "RevisionNotFound"})
            case _:
                self.reply(404, {"X-Error-Code": "RepoNotFound"})

    def reply(self, status: int, headers: dict[str, str], content: bytes = b"", length: int = 0) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(length)}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Nothing: stderr is the test's."""


@pytest.fixture
def hub(trained: dict[Style, Tokenizer]) -> Iterator[str]:
    Hub.content = trained["gpt2"].to_str().encode()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_tokenizer_is_fetched_once(hub: str, load: Load, tmp_path: Path) -> None:
    found = load(tmp_path, "org/name", hub=hub)
    assert (found["size"], found["named"]) == (1200, {})
    assert load(tmp_path, "org/name") == found


@pytest.mark.parametrize(
    ("name", "revision", "found"),
    [
        ("org/slow", "main", "org/slow has no tokenizer.json in revision main"),
        ("org/gated", "main", "access to org/gated is refused"),
        ("org/none", "main", "org/none, revision main: 404"),
        ("org/slow", "v9", "org/slow, revision v9: 404"),
    ],
)
def test_what_the_hub_refuses_is_told(
    hub: str, load: Load, tmp_path: Path, name: str, revision: str, found: str
) -> None:
    with pytest.raises(UserError) as caught:
        load(tmp_path, name, revision, hub=hub)
    assert caught.value.found.startswith(found)
