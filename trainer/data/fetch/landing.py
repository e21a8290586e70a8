"""The folder that files are fetched to: who may write it, what was stored there before, and its SHA256SUMS.

`run` opens it, `download` asks and tells it of files. Under `.fetch/`, which readers of the folder leave out as hidden:

    lock            a kernel lock that dies with its owner: one fetch at a time
    journal.jsonl   one line per file that was stored whole: size, sha256, and the server's mark of the version
    parts/          files under way (see `partial`)

SHA256SUMS is written last: a folder without it, or with one that does not match, is not all there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from trainer.data.disk import sole_owner
from trainer.data.fetch.checksums import SUMS_FILE, parse, render
from trainer.data.fetch.names import OWN_FOLDER
from trainer.durable import write_atomically
from trainer.errors import UserError


class Stored(BaseModel):
    """One line of the journal."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    url: str = ""
    bytes: int | None = None
    sha256: str
    version: str | None = None


class Landing:
    """A target folder that this process alone writes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._own = folder / OWN_FOLDER
        self.parts = self._own / "parts"
        self._journal = self._own / "journal.jsonl"
        self._stored = self._read_sums() | self._read_journal()

    def path(self, name: str) -> Path:
        """Where a file belongs."""
        return self.folder / name

    def stored(self, name: str) -> Stored | None:
        """What is known of a file that was stored before."""
        return self._stored.get(name)

    def note(self, stored: Stored) -> None:
        """Write a file's line into the journal. The file has its name by now: a line never comes before its file."""
        if self._stored.get(stored.name) == stored:
            return
        self._stored[stored.name] = stored
        with self._journal.open("a", encoding="utf-8") as file:
            file.write(stored.model_dump_json() + "\n")

    def finish(self) -> Path:
        """Write SHA256SUMS of all files that are here, and a journal with one line for each."""
        here = {name: stored for name, stored in self._stored.items() if self.path(name).is_file()}
        lines = "".join(here[name].model_dump_json() + "\n" for name in sorted(here))
        write_atomically(self._journal, lines.encode())
        sums = self.folder / SUMS_FILE
        write_atomically(sums, render({name: stored.sha256 for name, stored in here.items()}).encode())
        return sums

    def _read_journal(self) -> dict[str, Stored]:
        found = {}
        if self._journal.exists():
            text = self._journal.read_text(encoding="utf-8", errors="replace")
            for line in text.splitlines():
                try:
                    stored = Stored.model_validate_json(line)
                except ValidationError:
                    continue  # the line that a killed process was writing
                found[stored.name] = stored
            if not text.endswith("\n"):
                with self._journal.open("a", encoding="utf-8") as file:
                    file.write("\n")
        return found

    def _read_sums(self) -> dict[str, Stored]:
        """What a folder says that was copied here without its journal."""
        path = self.folder / SUMS_FILE
        if not path.is_file():
            return {}
        hashes = parse(path.read_text(encoding="utf-8", errors="replace"), str(path)).items()
        return {name: Stored(name=name, sha256=known.digest) for name, known in hashes if known.algorithm == "sha256"}


@contextmanager
def open_landing(folder: Path) -> Iterator[Landing]:
    """Make the folder if need be, and wait until no other process fetches to it."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file", expected="a folder", fix="give another --output")
    (folder / OWN_FOLDER / "parts").mkdir(parents=True, exist_ok=True)
    with sole_owner(folder / OWN_FOLDER / "lock", f"fetches to {folder}"):
        landing = Landing(folder)
        for torn in landing.parts.glob(".*"):  # a record that was being written when its process was killed
            torn.unlink()
        yield landing
