"""What a fetch did, or would do: per file and in total, as text and as JSON. Made by `run`, printed by the command."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict

from trainer.data.fetch.remote import Word
from trainer.errors import EXIT_FAILED, EXIT_FINISHED, EXIT_USER_ERROR

Action = Literal["fetched", "replaced", "skipped", "failed"]
# What another try later may heal; all else somebody has to mend.
_MAY_HEAL: tuple[Word, ...] = ("busy", "unreachable")


class Outcome(BaseModel):
    """What became of one file."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    name: str
    """Path below the target."""
    url: str
    action: Action
    bytes: int | None = None
    sha256: str | None = None
    problem: Word | None = None
    """Of a failed file: why, in one word."""
    message: str | None = None
    """Of a failed file: what happened, with the offset where there is one."""


class Report(BaseModel):
    """The result of a fetch."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    target: str
    dry_run: bool
    stopped: bool
    """Whether a failure ended the fetch before all files were tried."""
    tolerant: bool
    """Whether failed files were to be skipped."""
    seconds: float
    files: tuple[Outcome, ...]
    """In the order of the sources; those that a stopped fetch did not come to are left out."""
    checksums: str | None
    """Where SHA256SUMS was written."""

    def count(self, action: Action) -> int:
        """Files with this outcome."""
        return sum(outcome.action == action for outcome in self.files)

    @property
    def moved_bytes(self) -> int:
        """Bytes of the files that came, or would come, as far as their sizes are known."""
        return sum(outcome.bytes or 0 for outcome in self.files if outcome.action in ("fetched", "replaced"))

    @property
    def failed(self) -> list[Outcome]:
        """The files that could not be had."""
        return [outcome for outcome in self.files if outcome.action == "failed"]

    @property
    def exit_code(self) -> int:
        """0 also with failed files where they were to be skipped, unless the servers could not be reached at all."""
        if not self.failed or (self.tolerant and not self.stopped):
            return EXIT_FINISHED
        return exit_code_of(outcome.problem for outcome in self.failed)

    def as_json(self) -> dict[str, object]:
        """Totals first, then every file."""
        totals = {action: self.count(action) for action in get_args(Action)} | {"bytes": self.moved_bytes}
        rows = [outcome.model_dump(exclude_none=True) for outcome in self.files]
        return self.model_dump(exclude={"files"}) | totals | {"outcomes": rows}

    def as_text(self) -> str:
        """A line per failed file and the totals; of a dry run, a line per file."""
        lines = []
        if self.dry_run:
            sizes = [f"{'?' if outcome.bytes is None else f'{outcome.bytes:,}':>18}" for outcome in self.files]
            lines += [
                f"{size}  {'here  ' if outcome.action == 'skipped' else 'fetch '}  {outcome.name}"
                for size, outcome in zip(sizes, self.files, strict=True)
                if outcome.action != "failed"
            ]
        lines += [f"{outcome.problem}: {outcome.name}: {outcome.message}" for outcome in self.failed]
        moved = self.count("fetched") + self.count("replaced")
        verb = "to fetch" if self.dry_run else "fetched"
        total = f"{self.target}: {moved} {verb} ({self.moved_bytes:,} bytes)"
        total += f", {self.count('skipped')} here already"
        total += f", {len(self.failed)} failed" if self.failed else ""
        total += "; stopped before the end: run the command again to go on" if self.stopped else ""
        return "\n".join([*lines, total])


def exit_code_of(problems: Iterable[Word | None]) -> int:
    """1 where another try may help, 2 where somebody has to mend something first."""
    return EXIT_FAILED if any(problem in _MAY_HEAL for problem in problems) else EXIT_USER_ERROR
