"""Log lines: JSON for machines, or text. A line about a run has its namespace and name as fields."""

from __future__ import annotations

import json
import logging
import sys
import traceback
from datetime import UTC, datetime

# What `extra=` may add to a line.
_FIELDS = ("namespace", "run", "action", "reason", "kind", "verb", "resource")


def configure(log_format: str) -> None:
    """Set up logging of the process."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Json() if log_format == "json" else logging.Formatter("%(levelname)-7s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    # Each attempt of each watch, and that signals are not taken on its threads; what matters of it is told by us.
    logging.getLogger("kopf").setLevel(logging.CRITICAL)


class Json(logging.Formatter):
    """One object a line."""

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        fields |= {name: getattr(record, name) for name in _FIELDS if hasattr(record, name)}
        if record.exc_info and record.exc_info[0] is not None:
            fields["error"] = "".join(traceback.format_exception(*record.exc_info))
        return json.dumps(fields, default=str)
