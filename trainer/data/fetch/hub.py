"""Files of repositories on the Hugging Face Hub (`hf://datasets/ORG/NAME[@REVISION]/FOLDER`), as files on the web.

The Hub's library lists them, at the commit that the revision means now, with the sha256 of large ones; the content
then comes like that of any web server: in ranges, resumed, paced. `listing` calls it.
"""

from __future__ import annotations

from typing import Any

from trainer.data.fetch.checksums import Hash
from trainer.data.fetch.remote import Facts, StatusError
from trainer.data.fetch.web import Web, WebFile
from trainer.errors import UserError
from trainer.extras import needs


def list_hub(url: str, web: Web) -> list[tuple[str, WebFile, Facts]]:
    """Name below the given path, file and facts of everything there. Blocks; FileNotFoundError where nothing is."""
    with needs("data", "files of hf://"):
        from huggingface_hub.errors import HfHubHTTPError
    try:
        return _list(url, web)
    except FileNotFoundError as error:
        # Its cause is an error of the connection's kind, which would be tried again.
        raise FileNotFoundError(str(error)) from None
    except HfHubHTTPError as error:
        raise StatusError(error.response.status_code, str(error).splitlines()[0], error.response.headers) from error


def _list(url: str, web: Web) -> list[tuple[str, WebFile, Facts]]:
    from huggingface_hub import HfApi, HfFileSystem, get_token, hf_hub_url
    from huggingface_hub.hf_api import RepoFile

    place: Any = HfFileSystem().resolve_path(url)
    if not hasattr(place, "repo_id"):
        raise UserError(
            f"{url} is no repository", expected="hf://datasets/ORG/NAME or hf://ORG/MODEL", fix="correct the URL"
        )
    hub, repository = HfApi(), {"repo_id": place.repo_id, "repo_type": place.repo_type}
    commit = hub.repo_info(**repository, revision=place.revision).sha
    given: str = place.path_in_repo
    entries: list[Any] = list(hub.get_paths_info(**repository, paths=[given], revision=commit)) if given else []
    if not any(isinstance(entry, RepoFile) for entry in entries):
        entries = list(hub.list_repo_tree(**repository, path_in_repo=given or None, recursive=True, revision=commit))
    token = get_token()
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    found = []
    for entry in entries:
        if isinstance(entry, RepoFile):
            facts = Facts(entry.size, known=Hash("sha256", entry.lfs.sha256) if entry.lfs else None)
            address = hf_hub_url(**repository, filename=entry.path, revision=commit, endpoint=hub.endpoint)
            name = entry.path.removeprefix(given).lstrip("/") or entry.path.rsplit("/", 1)[-1]
            found.append((name, WebFile(web, address, headers, facts), facts))
    return found
