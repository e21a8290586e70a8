"""The `/status` of any number of runs, from one process: `python -m tests.cluster.desks PORT`.

GET /NAMESPACE/NAME/status says that all of NAME's workers are heard and steps are done. PUT there replaces fields of it
from then on; `{"away": true}` hangs up, `{"raw": "..."}` answers with just that.
"""

from __future__ import annotations

import json
import sys
import time
import urllib.request
from typing import Any

from aiohttp import web

PATH = "/{namespace}/{name}/status"
MEMBERS = 16
_STARTED = time.time()


def document(name: str) -> dict[str, Any]:
    """What a run in good order says."""
    step = int((time.time() - _STARTED) * 10)
    host = f"{name}-worker-{{}}"
    members = [
        {"id": str(i), "host": host.format(i), "slots": 1, "rank": i, "step": step, "last_seen_seconds": 0.1}
        for i in range(MEMBERS)
    ]
    return {
        "format": 1,
        "run": name,
        "attempt": 1,
        "round": 1,
        "phase": "training",
        "step": step,
        "steps_total": 1_000_000,
        "loss": 3.0 + 1 / (step + 1),
        "tokens_per_second": 1000.0 + step % 7,
        "mfu_ratio": 0.4,
        "world_size": MEMBERS,
        "members": members,
        "restarts": {},
        "goodput_seconds": {"training": 90.0 + step, "init": 10.0},
        "last_checkpoint": {"name": f"step-{step // 100 * 100:08}-a0001", "step": step // 100 * 100, "url": "s3://b/r"},
        "eta_time": None,
        "last_error": None,
    }


def app() -> web.Application:
    """The server."""
    changes: dict[tuple[str, str], dict[str, Any]] = {}

    async def status(request: web.Request) -> web.StreamResponse:
        key = (request.match_info["namespace"], request.match_info["name"])
        change = changes.get(key, {})
        if change.get("away"):
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        if "raw" in change:
            return web.Response(text=change["raw"])
        return web.json_response(document(key[1]) | change)

    async def change(request: web.Request) -> web.Response:
        changes[request.match_info["namespace"], request.match_info["name"]] = await request.json()
        return web.Response()

    made = web.Application()
    made.add_routes([web.get(PATH, status), web.put(PATH, change)])
    return made


def put(port: int, namespace: str, name: str, **fields: Any) -> None:
    """Change what one run says."""
    url = f"http://127.0.0.1:{port}/{namespace}/{name}/status"
    request = urllib.request.Request(url, json.dumps(fields).encode(), method="PUT")
    urllib.request.urlopen(request, timeout=10).close()


if __name__ == "__main__":
    web.run_app(app(), host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None)
