"""The HTTP server: routes, streams, limits, and an orderly end. Called by `gpt-run serve`.

One request is computed at a time (`turns`), and all else is answered meanwhile. A client that goes away ends its own.
Needs aiohttp, so that command alone imports it.
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

from aiohttp import web

from trainer.addresses import bound, joined
from trainer.errors import UserError
from trainer.evaluate.generate import Piece
from trainer.evaluate.serve.answers import Answer
from trainer.evaluate.serve.errors import ApiError
from trainer.evaluate.serve.model import Job, ServedModel
from trainer.evaluate.serve.requests import ChatRequest, CompletionRequest, TextRequest, read_request
from trainer.evaluate.serve.turns import RETRY_SECONDS, Turns

BODY_BYTES = 2**20
# For what is written to clients once computing has stopped.
_FAREWELL_SECONDS = 5.0

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def bind(host: str, port: int) -> socket.socket:
    """Take the port; nobody can connect before `serve`. UserError where it cannot be had."""
    try:
        return bound(host, port)
    except OSError as error:
        raise UserError(
            f"--host {host} --port {port}: {error.strerror}",
            expected="an address of this machine and a port that nobody listens on",
            fix="end the other program, or choose another --port (0 takes a free one)",
        ) from error


async def serve(model: ServedModel, listener: socket.socket, *, waiting: int, say: Callable[[str], None]) -> None:
    """Answer until SIGTERM or Ctrl+C; then end what runs, tell its clients, and return."""
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    server = Server(model, waiting)
    # Without handler_cancellation a client that goes away while it waits would not be noticed.
    runner = web.AppRunner(
        server.application(), handler_cancellation=True, shutdown_timeout=_FAREWELL_SECONDS, access_log=None
    )
    await runner.setup()
    await web.SockSite(runner, listener).start()
    say(f"{model.name}: http://{joined(*listener.getsockname()[:2])}/v1")
    await told.wait()
    say("stopping")
    server.turns.stop()
    await runner.cleanup()
    server.turns.close()


class Server:
    """The routes over one model."""

    def __init__(self, model: ServedModel, waiting: int) -> None:
        self.turns = Turns(waiting)
        self._model = model

    def application(self) -> web.Application:
        """What aiohttp serves."""
        application = web.Application(middlewares=[_answer_errors], client_max_size=BODY_BYTES)
        application.router.add_get("/healthz", self._health)
        application.router.add_get("/v1/models", self._models)
        application.router.add_post("/v1/completions", self._completions)
        application.router.add_post("/v1/chat/completions", self._chat)
        return application

    async def _health(self, _: web.Request) -> web.StreamResponse:
        return web.json_response({"status": "ok", "busy": self.turns.busy, "waiting": self.turns.waiting})

    async def _models(self, _: web.Request) -> web.StreamResponse:
        model = {"id": self._model.name, "object": "model", "created": 0, "owned_by": "gpt-run"}
        return web.json_response({"object": "list", "data": [model]})

    async def _completions(self, http: web.Request) -> web.StreamResponse:
        request = read_request(CompletionRequest, await _json_body(http))
        job = self._model.completion_job(request)
        return await self._answer(http, request, job, Answer("completion", self._model.name, job.prompts))

    async def _chat(self, http: web.Request) -> web.StreamResponse:
        request = read_request(ChatRequest, await _json_body(http))
        job = self._model.chat_job(request)
        return await self._answer(http, request, job, Answer("chat", self._model.name, job.prompts))

    async def _answer(self, http: web.Request, request: TextRequest, job: Job, answer: Answer) -> web.StreamResponse:
        # Closed on all ways out, that of a client which has gone away included: that ends the computing.
        async with aclosing(self.turns.run(self._model.pieces(job))) as pieces:
            if request.stream:
                usage = request.stream_options is not None and request.stream_options.include_usage
                return await _stream(http, answer, pieces, usage=usage)
            async for piece in pieces:
                answer.add(piece)
        return web.json_response(answer.whole())


async def _stream(
    http: web.Request, answer: Answer, pieces: AsyncGenerator[Piece], *, usage: bool
) -> web.StreamResponse:
    """Server-sent events (WHATWG HTML, section 9.2): one chunk each, then [DONE]."""
    # What refuses the request does it here, while there is a status to say it with.
    first = await anext(pieces)
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
    await response.prepare(http)

    async def send(event: object) -> None:
        await response.write(b"data: " + json.dumps(event).encode() + b"\n\n")

    for opening in answer.first_chunks():
        await send(opening)
    try:
        if (chunk := answer.add(first)) is not None:
            await send(chunk)
        async for piece in pieces:
            if (chunk := answer.add(piece)) is not None:
                await send(chunk)
    except ApiError as error:
        # The status is out already; a stream without [DONE] is not whole.
        await send(error.body())
        return response
    if usage:
        await send(answer.usage_chunk())
    await response.write(b"data: [DONE]\n\n")
    return response


async def _json_body(http: web.Request) -> Any:
    try:
        return json.loads(await http.read())
    except (ValueError, RecursionError) as error:
        raise ApiError(400, f"the body is no JSON: {error}") from error


@web.middleware
async def _answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every refusal in OpenAI's form, those of aiohttp itself included."""
    try:
        return await handler(request)
    except ApiError as error:
        found = error
    except web.HTTPRequestEntityTooLarge:
        found = ApiError(413, f"the body is too large; expected at most {BODY_BYTES} bytes", code="body_too_large")
    except web.HTTPException as error:
        found = ApiError(error.status, f"{request.method} {request.path}: {error.reason}")
    headers = {"Retry-After": str(RETRY_SECONDS)} if found.status in (429, 503) else {}
    return web.json_response(found.body(), status=found.status, headers=headers)
