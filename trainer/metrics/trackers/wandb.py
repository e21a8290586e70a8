"""Weights & Biases: one run there for one run here, however many attempts it takes.

The id is drawn once and kept in the run's store, so every attempt goes on under it. History there only grows: steps
that it has from an attempt before are left out, so no curve forks. wandb's own process does the sending; this module
runs in the tracker's thread. The key comes from the environment and goes nowhere else.
"""

from __future__ import annotations

import contextlib
import html
import json
import logging
import os
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trainer.checkpoint.store import AlreadyExists, Store
from trainer.metrics.trackers.base import Line, curves_of
from trainer.metrics.trackers.config import WandbConfig
from trainer.metrics.trackers.wandb_file import newest_step

ID_FILE = "logs/wandb.json"
KEY_VARIABLE = "WANDB_API_KEY"
# Together less than a run waits for its trackers at the end.
_FINISH_SECONDS = 6.0
_INIT_SECONDS = 30.0
_WRITE_SECONDS = 1.0


class WandbTracker:
    """A run at Weights & Biases, or in a local folder."""

    name = "wandb"
    interval_seconds = 0.0

    def __init__(self, config: WandbConfig, run: Store, *, settings: Mapping[str, Any]) -> None:
        self._config, self._store, self._settings = config, run, settings
        self._folder = _folder(config, run)
        self._run: Any = None
        self._last_step = -1
        """The newest step that was logged; earlier ones of an attempt before are not logged again."""
        self._before = -1
        """What `_last_step` was when this attempt began."""

    def write(self, lines: Sequence[Line]) -> None:
        """Log lines; the first call begins the run, or goes on with it."""
        if self._run is None:
            self._run = self._begin()
        for line in lines:
            step = line.record["step"]
            if step > self._before and step >= self._last_step:
                self._run.log(_values(line), step=step)
                self._last_step = step

    def close(self) -> None:
        """Send the rest, for a bounded time."""
        if self._run is not None:
            self._run.finish()

    def _begin(self) -> Any:
        key = os.environ.get(KEY_VARIABLE)
        if self._config.mode == "online" and not key:
            raise RuntimeError(f"{KEY_VARIABLE} is not set: give the key of your account in the environment")
        # What there is to say comes as an exception; read when wandb is imported.
        os.environ.setdefault("WANDB_SILENT", "true")
        import wandb

        # Its telemetry complains in a log of its own about every server that does not take it.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        self._folder.mkdir(parents=True, exist_ok=True)
        run_id = self._id()
        try:
            run = self._init(run_id, key)
        except Exception:
            # Its process would say of the next try that the id is in use.
            wandb.teardown(exit_code=1)
            raise
        offline = self._config.mode == "offline"
        self._before = newest_step(self._folder, run_id) if offline else run.starting_step - 1
        self._last_step = self._before
        return run

    def _init(self, run_id: str, key: str | None) -> Any:
        import wandb

        settings = wandb.Settings(
            mode=self._config.mode,
            api_key=key,
            root_dir=str(self._folder),
            silent=True,
            console="off",
            init_timeout=_INIT_SECONDS,
            finish_timeout=_FINISH_SECONDS,
            # What a kill can cost of offline files.
            x_transaction_log_flush_interval=_WRITE_SECONDS,
            # A few tries that end with the reason: the feed tries again by itself.
            x_graphql_retry_max=3,
            # What the machine does is in our own metrics; code, command line and packages are nobody's business.
            x_disable_stats=True,
            x_disable_meta=True,
            x_disable_machine_info=True,
            x_save_requirements=False,
            disable_code=True,
            disable_git=True,
        )
        return wandb.init(
            project=self._config.project,
            entity=self._config.entity,
            id=run_id,
            name=self._store.name,
            tags=list(self._config.tags),
            config=dict(self._settings),
            resume="allow",
            settings=settings,
        )

    def _id(self) -> str:
        """The run's id, drawn by the first attempt that gets here. Deleting the run's folder makes it another run."""
        if not self._store.exists(ID_FILE):
            drawn = {"id": f"{self._store.name}-{uuid.uuid4().hex[:8]}"}
            with contextlib.suppress(AlreadyExists):  # of two attempts that do not know of each other, the first counts
                self._store.write_once(ID_FILE, json.dumps(drawn).encode() + b"\n")
        return str(json.loads(self._store.read_bytes(ID_FILE))["id"])


def _folder(config: WandbConfig, run: Store) -> Path:
    if config.folder is not None:
        return Path(config.folder).expanduser().absolute()
    return run.local_path("logs") if run.is_local else Path(tempfile.gettempdir(), "gpt-run")


def _values(line: Line) -> dict[str, Any]:
    """What is logged of a line, under the names that TensorBoard shows too."""
    import wandb

    record = line.record
    if line.kind == "training":
        return dict(curves_of(record))
    if line.kind == "samples":
        text = html.escape(record["prompt"] + record["text"])
        return {f"samples/{record['number']}": wandb.Html(f"<pre>{text}</pre>")}
    return {
        f"{what}/{module}": wandb.Histogram(
            np_histogram=(
                found["counts"],
                record["edges"][found["first"] : found["first"] + len(found["counts"]) + 1],
            )
        )
        for what in ("parameters", "gradients")
        for module, found in record[what].items()
    }
