"""A run with one checkpoint of random weights, and a Hub of a few answers: what tests of the export need."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch

from tests.integration.training import RUN, merged
from trainer.checkpoint.attempts import claim_attempt
from trainer.checkpoint.save import Hashes, Saver, Snapshot
from trainer.checkpoint.store import open_run
from trainer.config import RunConfig
from trainer.config_file import run_config_yaml
from trainer.model.decoder import Decoder
from trainer.settings import settings_sha256


def write_run(store: str, dataset: Path, model: dict[str, Any], **changes: Any) -> Decoder:
    """Commit a checkpoint of step 30 of the run `small`; the decoder with its weights."""
    settings = merged(RUN, {"data": {"train": str(dataset)}}, changes) | {"model": model}
    config = RunConfig.model_validate(settings)
    decoder = random_decoder(config)
    described = json.loads((dataset / "dataset.json").read_text())
    hashes = Hashes(
        config_sha256=settings_sha256(config),
        model_sha256=settings_sha256(config.model),
        dataset_sha256=described["fingerprint"],
        tokenizer_sha256=described["tokenizer"]["fingerprint"],
    )
    snapshot = Snapshot(
        step=30,
        tokens=9600,
        epoch=0.25,
        loss=3.5,
        validation_loss=3.75,
        tensors={
            "model": {name: parameter.detach() for name, parameter in decoder.named_parameters()},
            "optimizer": {"exp_avg": torch.zeros(1000)},
        },
        progress={"step": 30},
        rank_state=b"",
        config_yaml=run_config_yaml(config),
        hashes=hashes,
    )
    run = open_run(store, "small")
    attempt = claim_attempt(run, world_size=1, config_sha256=hashes.config_sha256, base_checkpoint=None, hosts=["a"])
    saver = Saver(attempt, group=None, keep=config.checkpoint.keep)
    saver.save(snapshot)
    saver.wait()
    return decoder


def random_decoder(config: RunConfig) -> Decoder:
    """Values wide enough that every parameter shows in the logits, biases and norms too."""
    decoder = Decoder(config.model).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in decoder.named_parameters():
            parameter.normal_(1.0 if "norm.weight" in name else 0.0, 0.1, generator=generator)
    return decoder


class Hub:
    """What was committed to one repository, and the tokens that were shown."""

    def __init__(self) -> None:
        self.url = ""
        self.files: dict[str, bytes] = {}
        self.created: list[dict[str, Any]] = []
        self.commits: list[str] = []
        self.tokens: set[str | None] = set()
        self.refuses = False


@contextmanager
def small_hub() -> Iterator[Hub]:
    """The answers of the Hugging Face Hub that a commit of small files takes, on a real socket."""
    hub = Hub()

    class Handler(_HubHandler):
        served = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


class _HubHandler(BaseHTTPRequestHandler):
    served: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.served.refuses:
            self._answer({"error": "Invalid token"}, 401)
        elif "/tree/" in self.path:
            self._answer([{"type": "file", "path": name, "size": 1, "oid": "0"} for name in self.served.files])
        else:
            self._answer({})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        hub = self.served
        hub.tokens.add(self.headers.get("Authorization"))
        action = self.path.partition("?")[0].split("/")[-1] if "/create" in self.path else self.path.split("/")[-2]
        if hub.refuses:
            self._answer({"error": "Invalid token"}, 401)
        elif action == "create":
            hub.created.append(json.loads(body))
            self._answer({"url": f"{hub.url}/me/small"})
        elif action == "preupload":
            names = [file["path"] for file in json.loads(body)["files"]]
            self._answer({"files": [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in names]})
        elif action == "commit":
            self._commit(body)
        else:
            self._answer({"errors": [], "warnings": []})

    def _commit(self, body: bytes) -> None:
        hub = self.served
        for line in map(json.loads, body.decode().splitlines()):
            value = line["value"]
            if line["key"] == "header":
                hub.commits.append(value["summary"])
            elif line["key"] == "file":
                hub.files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "deletedFile":
                del hub.files[value["path"]]
        self._answer({"commitUrl": f"{hub.url}/me/small/commit/1", "commitOid": "1", "pullRequestUrl": None})

    def _answer(self, content: Any, status: int = 200) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base's name
        pass
