"""The few answers of the Hugging Face Hub that listing and downloading a data set takes, over a `TroubledWeb`."""

from __future__ import annotations

import hashlib
import json
from typing import Any
from urllib.parse import parse_qs

import pytest
from huggingface_hub import HfFileSystem, constants

from tests.integration.data.troubled_web import Manner, TroubledWeb

REPOSITORY = "someone/texts"
TOKEN = "hf_test"
# Of a file's URL.
RESOLVE = "/{repo_id}/resolve/{revision}/{filename}"


def use_hub(web: TroubledWeb, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `web` the Hub of this process; the client reads its variables only when it is imported."""
    monkeypatch.setattr(constants, "ENDPOINT", web.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", web.url + RESOLVE)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    HfFileSystem.clear_instance_cache()


def serve_dataset(web: TroubledWeb, files: dict[str, bytes], *, commit: str) -> None:
    """Serve `files` as the data set REPOSITORY at `commit`; those over 1000 bytes are kept as large ones."""
    api = f"/api/datasets/{REPOSITORY}"
    entries = [_entry(name, content) for name, content in files.items()]
    described = {"id": REPOSITORY, "sha": commit, "siblings": [], "private": False, "disabled": False, "tags": []}
    for path in (api, f"{api}/revision/main", f"{api}/revision/{commit}"):
        web.put(path, json.dumps(described).encode(), Manner(media_type="application/json"))
    web.put(f"{api}/tree/{commit}", json.dumps(entries).encode(), Manner(media_type="application/json"))
    folders = {name.rsplit("/", 1)[0] for name in files if "/" in name}
    for folder in folders:
        below = [entry for entry in entries if entry["path"].startswith(f"{folder}/")]
        web.put(f"{api}/tree/{commit}/{folder}", json.dumps(below).encode(), Manner(media_type="application/json"))
    web.posts[f"{api}/paths-info/{commit}"] = lambda body: _paths_info(entries, body)
    web.not_found_headers = {"X-Error-Code": "RepoNotFound"}
    for name, content in files.items():
        web.put(f"/datasets/{REPOSITORY}/resolve/{commit}/{name}", content)


def _entry(name: str, content: bytes) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "type": "file",
        "path": name,
        "size": len(content),
        "oid": hashlib.sha1(content).hexdigest(),
    }
    if len(content) > 1000:
        entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
    return entry


def _paths_info(entries: list[dict[str, Any]], body: bytes) -> bytes:
    wanted = parse_qs(body.decode())["paths"]
    found = [entry for entry in entries if entry["path"] in wanted]
    folders = [path for path in wanted if any(entry["path"].startswith(f"{path}/") for entry in entries)]
    return json.dumps(found + [{"type": "directory", "path": path, "oid": "0" * 40} for path in folders]).encode()
