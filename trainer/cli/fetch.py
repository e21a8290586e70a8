"""`gpt-run data fetch`: arguments in, one call, a report out. `trainer.cli.data` registers it."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from trainer.data.fetch.config import FetchConfig


def fetch(
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SOURCE...",
            help="URL of a file or folder (http and https, s3, gs, az, hf, ...), or a local path to bring up. "
            "A web folder's URL ends with /.",
        ),
    ] = None,
    *,
    output: Annotated[str, typer.Option(help="Folder, or the URL of a bucket to bring local files up to.")],
    lists: Annotated[
        list[str] | None,
        typer.Option("--list", metavar="FILE", help="File or URL with a URL, or a path below --base, on each line."),
    ] = None,
    base: Annotated[str | None, typer.Option(metavar="URL", help="What the paths in lists are below.")] = None,
    checksums: Annotated[
        str | None, typer.Option(metavar="FILE", help="File or URL of the md5, sha1, sha256 or sha512 sums to expect.")
    ] = None,
    include: Annotated[list[str] | None, typer.Option(metavar="PATTERN", help="Fetch only names like this.")] = None,
    exclude: Annotated[list[str] | None, typer.Option(metavar="PATTERN", help="Leave names like this out.")] = None,
    mirror: Annotated[
        list[str] | None, typer.Option(metavar="URL=URL", help="Beginning of URLs, and what to put in its place.")
    ] = None,
    contact: Annotated[
        str | None, typer.Option(help="Your mail address or URL, sent to web servers in the User-Agent.")
    ] = None,
    streams: Annotated[int, typer.Option(min=1, max=256, help="Transfers at a time.")] = 8,
    requests_per_second: Annotated[float, typer.Option(help="Most requests to one web server each second.")] = 20.0,
    bytes_per_second: Annotated[
        float | None, typer.Option(help="Most bytes each second, such as 25e6; by default no limit.")
    ] = None,
    retry_seconds: Annotated[
        float, typer.Option(help="Seconds without a new byte of a file after which it is given up.")
    ] = 300.0,
    compare: Annotated[Literal["hash", "size"], typer.Option(help="What tells that a file is here already.")] = "hash",
    on_error: Annotated[
        Literal["stop", "skip"], typer.Option(help="Stop at a file that cannot be had, or count it and go on.")
    ] = "stop",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would come, with sizes.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Bring files from the web or a bucket to a folder, or a local folder up to a bucket.

    Run it again after an interruption: what is whole is skipped, what is not goes on where it stopped. SHA256SUMS is
    written when all files are there.
    """
    from trainer.data.fetch.listing import Wanted
    from trainer.data.fetch.remote import Unusable
    from trainer.data.fetch.report import exit_code_of
    from trainer.data.fetch.run import fetch as run

    settings = {
        "streams": streams,
        "requests_per_second": requests_per_second,
        "bytes_per_second": bytes_per_second,
        "retry_seconds": retry_seconds,
        "contact": contact,
        "mirrors": dict(_pair(text) for text in mirror or ()),
        "include": include or (),
        "exclude": exclude or (),
        "compare": compare,
        "on_error": on_error,
    }
    wanted = Wanted(tuple(sources or ()), tuple(lists or ()), base, checksums)
    try:
        report = run(wanted, output, _config(settings), dry_run=dry_run)
    except Unusable as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(exit_code_of([error.word])) from error
    typer.echo(json.dumps(report.as_json()) if as_json else report.as_text())
    raise typer.Exit(report.exit_code)


def _config(settings: dict[str, Any]) -> FetchConfig:
    from pydantic import ValidationError

    from trainer.complaints import complaints
    from trainer.data.fetch.config import FetchConfig
    from trainer.errors import UserError

    try:
        return FetchConfig.model_validate(settings)
    except ValidationError as error:
        found = "; ".join(complaints(error, settings, FetchConfig))
        raise UserError(
            found, expected="options as `gpt-run data fetch --help` lists them", fix="correct them"
        ) from error


def _pair(text: str) -> tuple[str, str]:
    from trainer.errors import UserError

    match = re.fullmatch(r"(https?://[^=]+)=(https?://.+)", text)
    if match is None:
        raise UserError(
            f"--mirror {text}", expected="URL=URL", fix="--mirror https://www.gutenberg.org/=https://MIRROR/"
        )
    return match[1], match[2]
