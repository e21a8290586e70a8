"""A served random model on a real port, whose pieces can be let through one by one."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from aiohttp import web

from trainer.data.chat import SHIPPED
from trainer.data.tokenizer import train_bpe
from trainer.evaluate.generate import Piece
from trainer.evaluate.pretrained import load_pretrained
from trainer.evaluate.serve.app import Server, bind
from trainer.evaluate.serve.model import Job, ServedModel, load_served
from trainer.model.config import GPT2Config
from trainer.model.decoder import Decoder
from trainer.model.hf import export_hf

CONTEXT = 256
NAME = "small"
WAITING = 1


class GatedModel(ServedModel):
    """The model itself; a test may hold its pieces back, and counts them."""

    def __init__(self, served: ServedModel) -> None:
        self.__dict__.update(served.__dict__)
        self.gate: threading.Semaphore | None = None
        self.made = 0

    def pieces(self, job: Job) -> Iterator[Piece]:
        for piece in super().pieces(job):
            if self.gate is not None:
                self.gate.acquire()
            self.made += 1
            yield piece


@dataclass
class Served:
    """A running server and how to talk to it."""

    model: GatedModel
    server: Server
    port: int
    call: Callable[[Callable[[], None]], None]
    """Runs a function in the server's loop."""

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def ask(self, path: str, body: object = None, *, raw: bytes | None = None) -> tuple[int, Any, dict[str, str]]:
        """Status, JSON and headers of one request: a GET without a body."""
        connection = self.connect()
        with contextlib.closing(connection):
            content = raw if raw is not None else None if body is None else json.dumps(body).encode()
            connection.request("GET" if content is None else "POST", path, content)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read()), dict(answer.getheaders())

    def stream(self, path: str, body: dict[str, Any]) -> tuple[http.client.HTTPResponse, http.client.HTTPConnection]:
        connection = self.connect()
        connection.request("POST", path, json.dumps(body | {"stream": True}).encode())
        return connection.getresponse(), connection


def events(answer: http.client.HTTPResponse) -> Iterator[Any]:
    """The events of a stream by the bytes they come in: `data: JSON`, then an empty line."""
    assert answer.getheader("Content-Type") == "text/event-stream"
    while line := answer.readline():
        assert line.startswith(b"data: ")
        assert answer.readline() == b"\n"
        content = line.removeprefix(b"data: ").strip()
        yield content.decode() if content == b"[DONE]" else json.loads(content)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hugging Face folder that never ends a text by itself, with the chat template `chatml`."""
    folder = tmp_path_factory.mktemp("served")
    train_bpe([(Decoder.__doc__ or "") * 3], 300).save(str(folder / "tokenizer.json"))
    config = GPT2Config(vocab_size=300, context=CONTEXT, layers=1, width=16, heads=2)
    model = Decoder(config)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.5, generator=generator)
        # The end of text is never the most likely token.
        model.embed.weight[0] = 0
    state = {name: value.detach() for name, value in model.named_parameters()}
    export_hf(state, config, folder / "model", tokenizer_file=folder / "tokenizer.json", eos_id=0)
    (folder / "model" / "chat_template.jinja").write_text(SHIPPED["chatml"])
    return folder / "model"


@pytest.fixture(scope="session")
def plain(folder: Path) -> ServedModel:
    return load_served(str(folder), name=NAME, tokenizer_file=None)


@pytest.fixture
def served(plain: ServedModel) -> Iterator[Served]:
    loop = asyncio.new_event_loop()
    model = GatedModel(plain)
    listener = bind("127.0.0.1", 0)
    server = Server(model, WAITING)
    runner = web.AppRunner(server.application(), handler_cancellation=True, shutdown_timeout=1.0, access_log=None)
    ready, done = threading.Event(), asyncio.Event()

    async def serve() -> None:
        await runner.setup()
        await web.SockSite(runner, listener).start()
        ready.set()
        await done.wait()
        server.turns.stop()
        await runner.cleanup()
        server.turns.close()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert ready.wait(60)
    yield Served(model, server, listener.getsockname()[1], loop.call_soon_threadsafe)
    if model.gate is not None:
        model.gate.release(10_000)
    loop.call_soon_threadsafe(done.set)
    thread.join()
    loop.close()


@pytest.fixture
def reference(folder: Path) -> Any:
    """The same model, not served."""
    return load_pretrained(str(folder))
