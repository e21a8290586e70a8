"""One file of a repository on the Hugging Face Hub, through huggingface_hub and its cache.

Called by `trainer.data.tokenizers.config`. The library's own variables apply: HF_TOKEN, HF_HOME, HF_ENDPOINT and
HF_HUB_OFFLINE, with which only the cache is read. Whatever the user can mend becomes a UserError.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple, overload

from trainer.errors import UserError
from trainer.extras import needs


class HubFile(NamedTuple):
    """A downloaded file, and the commit it was taken from."""

    path: Path
    commit: str


@overload
def download(name: str, revision: str, file: str) -> HubFile: ...
@overload
def download(name: str, revision: str, file: str, *, missing_ok: Literal[True]) -> HubFile | None: ...
def download(name: str, revision: str, file: str, *, missing_ok: bool = False) -> HubFile | None:
    """Fetch `file` of the repository `name`, or find it in the cache.

    Returns None where the repository has no such file and `missing_ok`. Raises UserError where the extra is not
    installed, and where repository, revision or file do not exist or may not be read.
    """
    with needs("data", f"the tokenizer of {name}"):
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError
    try:
        path = Path(hf_hub_download(name, file, revision=revision))
    except LocalEntryNotFoundError as error:  # a kind of EntryNotFoundError that tells nothing about the repository
        if missing_ok:
            return None
        raise UserError(
            f"{name}: {file} of revision {revision} is not in the cache, and the Hub cannot be reached",
            expected="a connection to the Hub (HF_ENDPOINT), or a cache (HF_HOME) that has the file",
            fix="unset HF_HUB_OFFLINE, or download it where there is a connection: hf download NAME tokenizer.json",
        ) from error
    except EntryNotFoundError as error:
        if missing_ok:
            return None
        raise UserError(
            f"{name} has no {file} in revision {revision}",
            expected="a repository with a fast tokenizer",
            fix="convert it: transformers.AutoTokenizer.from_pretrained(NAME).save_pretrained(FOLDER), "
            "then name FOLDER as the tokenizer",
        ) from error
    except GatedRepoError as error:
        raise UserError(
            f"access to {name} is refused", expected="a repository that this account may read", fix=_ACCESS
        ) from error
    except HfHubHTTPError as error:
        if error.response.status_code not in (401, 403, 404):
            raise
        raise UserError(
            f"{name}, revision {revision}: {str(error).splitlines()[0]}",
            expected="a repository and a revision that exist and may be read",
            fix=f"check both names; for a private repository: {_ACCESS}",
        ) from error
    # The cache lays files out as snapshots/COMMIT/NAME.
    return HubFile(path, path.parent.name)


_ACCESS = "accept its terms on the Hub and set HF_TOKEN"
