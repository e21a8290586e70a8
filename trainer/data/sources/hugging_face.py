"""Data sets of the Hugging Face Hub, read file by file from where they are: parquet, JSON lines or text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field

from trainer.data.sources.base import Document, Part, digest
from trainer.data.sources.files import FileSource, Reading
from trainer.data.sources.jsonl import JsonLines
from trainer.data.sources.parquet import Parquet
from trainer.data.sources.text_files import TextFiles
from trainer.errors import UserError
from trainer.extras import needs


class HuggingFace(Reading):
    """Files of a data set on the Hub; HF_TOKEN opens private ones, HF_ENDPOINT names another hub."""

    type: Literal["hf"]
    dataset: str = Field(pattern=r"^[\w.-]+/[\w.-]+$")
    """Owner and name, such as `HuggingFaceFW/fineweb-edu`."""
    files: str = Field(min_length=1)
    """Which files, as a glob pattern inside the repository: `sample/10BT/*.parquet`."""
    revision: str = "main"
    """Branch, tag or commit; the files are those of the commit that it means when preparation starts."""
    field: str = Field(default="text", min_length=1)
    """Column or key with the text."""

    def parts(self) -> list[Part]:
        return self._reader(self._commit()).parts()

    def read(self, part: Part) -> Iterator[Document]:
        with needs("data", "data sets of the Hugging Face Hub"):
            import huggingface_hub  # noqa: F401  (fsspec looks it up by the scheme)
        return self._reader_of(part.files[0]).read(part)

    def fingerprint(self) -> str:
        # Without the commit: a new one that leaves these files as they are changes nothing.
        commit = self._commit()
        files = self._reader(commit).files()
        return digest([self.field, [(file.url.replace(commit, ""), file.num_bytes, file.version) for file in files]])

    def _commit(self) -> str:
        with needs("data", "data sets of the Hugging Face Hub"):
            from huggingface_hub import HfApi
            from huggingface_hub.errors import HfHubHTTPError
        try:
            return str(HfApi().repo_info(self.dataset, repo_type="dataset", revision=self.revision).sha)
        except HfHubHTTPError as error:
            if error.response.status_code not in (401, 403, 404):
                raise
            raise UserError(
                f"{self.dataset}, revision {self.revision}: {str(error).splitlines()[0]}",
                expected="a data set and a revision that exist and may be read",
                fix="check both names; for a private or gated one accept its terms on the Hub and set HF_TOKEN",
            ) from error

    def _reader(self, commit: str) -> FileSource:
        """The source for the files' format; they must all have one."""
        path = f"hf://datasets/{self.dataset}@{commit}/{self.files}"
        files = self._reader_of(path).files()
        kinds = {self._reader_of(file.url).type for file in files}
        if len(kinds) > 1:
            raise UserError(
                f"{self.dataset} has files of several formats that match {self.files}: {', '.join(sorted(kinds))}",
                expected="files of one format",
                fix="narrow `files` down to one, such as data/*.parquet",
            )
        return self._reader_of(files[0].url, path)

    def _reader_of(self, url: str, path: str | None = None) -> FileSource:
        """A source for files like this one, at `path`."""
        settings: dict[str, Any] = {name: getattr(self, name) for name in Reading.model_fields}
        settings["path"] = path or url
        name = url.rsplit("/", 1)[-1].lower()
        if name.endswith(".parquet"):
            return Parquet(**settings | {"type": "parquet", "field": self.field})
        if ".json" in name:
            return JsonLines(**settings | {"type": "jsonl", "field": self.field})
        return TextFiles(**settings | {"type": "text"})
