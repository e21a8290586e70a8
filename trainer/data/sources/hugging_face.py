"""Data sets of the Hugging Face Hub, read file by file from where they are: parquet, JSON lines or text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field

from trainer.data.sources.base import Document, Part, digest
from trainer.data.sources.extras import needs
from trainer.data.sources.files import FileSource, Reading
from trainer.data.sources.jsonl import JsonLines
from trainer.data.sources.parquet import Parquet
from trainer.data.sources.text_files import TextFiles
from trainer.errors import UserError


class HuggingFace(Reading):
    """Files of a data set on the Hub (extra `hf`); HF_TOKEN opens private ones, HF_ENDPOINT names another hub."""

    type: Literal["hf"]
    dataset: str = Field(pattern=r"^[\w.-]+/[\w.-]+$")
    """Owner and name, such as `HuggingFaceFW/fineweb-edu`."""
    files: str = Field(min_length=1)
    """Which files, as a glob pattern inside the repository: `sample/10BT/*.parquet`."""
    revision: str = "main"
    """Branch, tag or commit; only a commit stays what it is."""
    field: str = Field(default="text", min_length=1)
    """Column or key with the text."""

    def parts(self) -> list[Part]:
        return self._reader().parts()

    def read(self, part: Part) -> Iterator[Document]:
        return self._reader_of(part.files[0]).read(part)

    def fingerprint(self) -> str:
        return digest([self.field, self._reader().fingerprint()])

    def _reader(self) -> FileSource:
        """The source of the files' format; they must all have one."""
        files = self._reader_of("").files()
        kinds = {self._reader_of(file.url).type for file in files}
        if len(kinds) > 1:
            raise UserError(
                f"{self.dataset} has files of several formats that match {self.files}: {', '.join(sorted(kinds))}",
                expected="files of one format",
                fix="narrow `files` down to one, such as data/*.parquet",
            )
        return self._reader_of(files[0].url)

    def _reader_of(self, url: str) -> FileSource:
        with needs("hf", "data sets of the Hugging Face Hub"):
            import huggingface_hub  # noqa: F401  (fsspec finds it by the scheme)
        # A revision may have slashes of its own: refs/convert/parquet.
        where = f"hf://datasets/{self.dataset}@{self.revision.replace('/', '%2F')}/{self.files}"
        common: dict[str, Any] = {name: getattr(self, name) for name in Reading.model_fields} | {"path": where}
        name = url.rsplit("/", 1)[-1].lower()
        if name.endswith(".parquet"):
            return Parquet(**common | {"type": "parquet", "field": self.field})
        if ".json" in name:
            return JsonLines(**common | {"type": "jsonl", "field": self.field})
        return TextFiles(**common | {"type": "text"})
