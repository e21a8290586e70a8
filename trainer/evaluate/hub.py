"""Upload an export to the Hugging Face Hub, as one commit of a model repository.

The Hub's library sends large files first, leaves out those whose hash the Hub has, and makes the commit last: what is
interrupted shows nowhere and goes on when it is started again. The token is the library's own affair (HF_TOKEN, or
what `hf auth login` stored): no option and no file of ours carries one. Called by `trainer.evaluate.upload`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from trainer.errors import UserError
from trainer.evaluate.exported import Exported
from trainer.extras import needs

SCHEME = "hf://"
_NAME = re.compile(r"(?P<name>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")
# A loader prefers one file of weights to an index of many: those of an earlier export must not stay.
_REPLACED = ["*.safetensors", "*.safetensors.index.json", "*.onnx", "*.onnx.data"]


class Repository(NamedTuple):
    """A model repository, and the branch if not the main one."""

    name: str
    revision: str | None


def check_repository(url: str) -> Repository:
    """Where hf://OWNER/NAME[@BRANCH] points. UserError for another form, or where the extra is not installed."""
    match = _NAME.fullmatch(url.removeprefix(SCHEME))
    if match is None:
        raise UserError(
            f"--upload {url}", expected="hf://OWNER/NAME or hf://OWNER/NAME@BRANCH", fix="name a model repository"
        )
    with needs("data", f"upload to {url}"):
        import huggingface_hub  # noqa: F401
    return Repository(match["name"], match["revision"])


def upload_to_hub(folder: Path, exported: Exported, url: str) -> str:
    """Commit the folder to the repository, which is made private if it has to be made; URL of the commit.

    UserError where the Hub refuses the token or the name.
    """
    repository = check_repository(url)
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    hub = HfApi()
    try:
        hub.create_repo(repository.name, private=True, exist_ok=True)
        if repository.revision is not None:
            hub.create_branch(repository.name, branch=repository.revision, exist_ok=True)
        commit = hub.upload_folder(
            repo_id=repository.name,
            folder_path=folder,
            revision=repository.revision,
            commit_message=f"{exported.run}, {exported.checkpoint}, {exported.dtype}",
            delete_patterns=_REPLACED,
        )
    except HfHubHTTPError as error:
        if error.response.status_code not in (401, 403, 404):
            raise
        raise UserError(
            f"{url}: the Hub refuses ({str(error).splitlines()[0]})",
            expected=f"a token that may write to {repository.name}",
            fix="set HF_TOKEN to one with the right to write, and check the name",
        ) from error
    return str(commit.commit_url)
