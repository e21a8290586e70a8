"""What `/status`, `/metrics` and `/healthz` of a run say.

`RunStatus` gathers what the coordinator knows and what rank 0 reports through its launcher; `StatusServer` serves it
from a thread of its own, so a slow reader never holds the coordinator up.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
from datetime import UTC, datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST

from trainer.addresses import bound
from trainer.elastic.reasons import Reason
from trainer.elastic.rounds import Decision, Finish, Form, Seen, Stop
from trainer.errors import EXIT_FINISHED, UserError
from trainer.metrics.exporter import RunExporter
from trainer.metrics.goodput import Bucket

FORMAT = 1
# Each costs a thread: who reads slowly on purpose must not use up the pod's memory.
_MOST_READERS = 512
# What rank 0 may set of /status; what else it reports is for /metrics, or left out.
_REPORTED = (
    "attempt",
    "step",
    "steps_total",
    "tokens",
    "loss",
    "validation_loss",
    "tokens_per_second",
    "mfu_ratio",
    "last_progress_time",
    "last_checkpoint",
    "goodput_seconds",
    "eta_time",
    "cost",
)
_WORKER_PHASES = ("starting", "restoring", "training", "evaluating", "saving")
_PHASES = ("waiting", *_WORKER_PHASES, "draining", "finished", "failed")
# Measured of a world of workers, and nothing any more once the next one starts.
_OF_ONE_WORLD = ("tokens_per_second", "mfu_ratio", "eta_time")


class RunStatus:
    """The run as people and the operator see it. Written by the coordinator's loop, read by the server's threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reported: dict[str, Any] = dict.fromkeys(_REPORTED)
        self._worker_phase = "starting"
        self._fields: dict[str, Any] = {"run": None, "round": 0, "phase": "waiting", "world_size": 0}
        self._looked_at: tuple[Seen, float] | None = None
        self._restarts: dict[str, int] = {}
        self._last_error: dict[str, Any] | None = None
        self._exporter = RunExporter(phases=_PHASES, reasons=list(Reason))

    def report(self, fields: dict[str, Any]) -> None:
        """What rank 0 says of its training."""
        with self._lock:
            self._reported.update({key: fields[key] for key in _REPORTED if key in fields})
            if fields.get("phase") in _WORKER_PHASES:
                self._worker_phase = fields["phase"]
            self._exporter.report(fields)

    def error(self, exit_code: int, reason: str | None, message: str) -> None:
        """The newest failure; stays until there is another."""
        with self._lock:
            self._last_error = {"exit_code": exit_code, "reason": reason, "message": message, "time": _now()}

    def round_formed(self, reason: str | None) -> None:
        """Count a round; reason: what ended the one before, None for the first."""
        with self._lock:
            if reason is not None:
                self._restarts[reason] = self._restarts.get(reason, 0) + 1
            self._exporter.round_formed(reason)
            self._worker_phase = "starting"
            self._reported |= dict.fromkeys(_OF_ONE_WORLD)

    def look_at(self, run: str, seen: Seen, decision: Decision, now: float) -> None:
        """Take over what the coordinator sees."""
        current = seen.round
        running = current.running if current is not None else ()
        if isinstance(decision, Finish) and decision.exit_code != EXIT_FINISHED:
            self._verdict(decision)
        with self._lock:
            self._fields = {
                "run": run,
                "round": current.number if current is not None else 0,
                "phase": self._phase(decision, bool(running)),
                "world_size": sum(seen.members[seat].slots for seat in running if seat in seen.members),
                "nodes": {"min": seen.rules.min_nodes, "max": seen.rules.max_nodes},
            }
            self._looked_at = (seen, now)
            self._exporter.look_at(
                run,
                phase=self._fields["phase"],
                world_size=self._fields["world_size"],
                members=len(seen.members),
                idle=not running and not isinstance(decision, Finish),
                now=now,
            )

    def document(self) -> dict[str, Any]:
        """The JSON of /status."""
        with self._lock:
            found = {
                "format": FORMAT,
                **self._fields,
                **self._reported,
                "goodput_seconds": self._goodput_seconds(),
                "restarts": dict(self._restarts),
                "last_error": self._last_error,
            }
            looked_at = self._looked_at
        # Of thousands of members: for who asks, not for every look, and without holding the coordinator up.
        return {**found, "members": [] if looked_at is None else _members(*looked_at)}

    def metrics(self) -> bytes:
        """The text of /metrics."""
        with self._lock:
            return self._exporter.text()

    def _verdict(self, decision: Finish) -> None:
        """Taken again and again, and an error of the first time only."""
        found = {"exit_code": decision.exit_code, "reason": decision.reason, "message": decision.message}
        if self._last_error is None or {**self._last_error, **found} != self._last_error:
            self.error(decision.exit_code, decision.reason, decision.message)

    def _goodput_seconds(self) -> dict[str, float] | None:
        """As rank 0 told, with the time since then in which nobody trained."""
        seconds: dict[str, float] | None = self._reported["goodput_seconds"]
        if seconds is None:
            return None
        recovery = seconds.get(Bucket.INFRA_RECOVERY, 0.0) + self._exporter.idle_seconds
        return {**seconds, Bucket.INFRA_RECOVERY.value: round(recovery, 3)}

    def _phase(self, decision: Decision, running: bool) -> str:
        if isinstance(decision, Finish):
            return "finished" if decision.exit_code == EXIT_FINISHED else "failed"
        if isinstance(decision, Stop):
            return "draining"
        return self._worker_phase if running or isinstance(decision, Form) else "waiting"


def _now() -> str:
    """UTC, as other times of /status are written."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _members(seen: Seen, now: float) -> list[dict[str, Any]]:
    """The launchers as /status shows them; now: when they were seen so."""
    ranks = _first_ranks(seen)
    return [
        {
            "id": member.id,
            "host": member.host,
            "slots": member.slots,
            "rank": ranks.get(member.id),
            "step": member.step,
            "last_seen_seconds": round(now - member.seen_at, 3),
        }
        for member in seen.members.values()
    ]


def _first_ranks(seen: Seen) -> dict[str, int]:
    """Rank of each member's first worker; members that are in no round have none."""
    ranks, rank = {}, 0
    for seat in seen.round.seats if seen.round is not None else ():
        if seat not in seen.members:
            break
        ranks[seat] = rank
        rank += seen.members[seat].slots
    return ranks


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, listener: socket.socket, handler: type[BaseHTTPRequestHandler]) -> None:
        self._free = threading.BoundedSemaphore(_MOST_READERS)
        super().__init__(listener.getsockname(), handler, bind_and_activate=False)
        self.socket.close()  # its own, of IPv4 alone
        self.socket = listener
        self.server_activate()

    def process_request(self, request: Any, client_address: Any) -> None:
        """A thread for a reader, or no answer where there are too many of them."""
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """One reader, to its end."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A reader that hangs up in the middle of its answer is no error of ours."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class StatusServer:
    """HTTP over a RunStatus."""

    def __init__(self, status: RunStatus, host: str, port: int) -> None:
        """Listen; port 0 lets the kernel choose. UserError if the port is taken."""
        try:
            self._server = _Server(bound(host, port), _handler(status))
        except OSError as error:
            raise UserError(
                f"port {port} for /status cannot be opened ({error.strerror or error})",
                expected="a free port of this machine",
                fix="end the process that holds it, or choose another with --http",
            ) from error
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, name="status", daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()


def _handler(status: RunStatus) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 10.0

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/status":
                self._answer("application/json", json.dumps(status.document()).encode())
            elif path == "/metrics":
                self._answer(CONTENT_TYPE_LATEST, status.metrics())
            elif path == "/healthz":
                self._answer("text/plain", b"ok\n")
            else:
                self.send_error(HTTPStatus.NOT_FOUND, "there are /status, /metrics and /healthz")

        def _answer(self, content_type: str, body: bytes) -> None:
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_args: Any) -> None:
            """Probes come every few seconds: no line for each."""

    return Handler
