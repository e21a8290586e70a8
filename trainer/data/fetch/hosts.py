"""What servers ask of programs: mirrors instead of the main site, a contact, robots.txt. `listing` goes by it.

robots.txt is for programs that follow links, so it is read for folder URLs; files that a person names are fetched.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit
from urllib.robotparser import RobotFileParser

from trainer.data.fetch.config import FetchConfig
from trainer.data.fetch.retry import Retry
from trainer.data.fetch.web import Web
from trainer.errors import UserError
from trainer.storage_errors import Meaning, clean_url, meaning_of


def mirrored(url: str, mirrors: Mapping[str, str]) -> str:
    """`url` with its beginning replaced by the mirror's; the longest beginning wins."""
    fitting = [beginning for beginning in mirrors if url.startswith(beginning)]
    if not fitting:
        return url
    beginning = max(fitting, key=len)
    return mirrors[beginning] + url[len(beginning) :]


def check_host(url: str, config: FetchConfig) -> None:
    """Raise UserError for servers whose owners turn programs like this one away, before they have to."""
    host = urlsplit(url).hostname or ""
    if not host:
        raise UserError(f"{clean_url(url)!r} names no server", expected="https://HOST/PATH", fix="correct the URL")
    if host in ("gutenberg.org", "www.gutenberg.org"):
        raise UserError(
            f"{clean_url(url)}: Project Gutenberg's main site is for people and blocks programs",
            expected="one of its mirrors (https://www.gutenberg.org/MIRRORS.ALL)",
            fix="add --mirror https://www.gutenberg.org/=MIRROR/ and keep --requests-per-second low",
        )
    if host.endswith((".wikimedia.org", ".wikipedia.org")) and config.contact is None:
        raise UserError(
            f"{clean_url(url)}: Wikimedia blocks programs that do not say whom to ask about them",
            expected="a mail address or URL of yours in the User-Agent",
            fix="add --contact YOU@EXAMPLE.ORG",
        )


class Robots:
    """robots.txt of the servers whose folders are followed, each read once (RFC 9309)."""

    def __init__(self, web: Web, retry: Retry, user_agent: str) -> None:
        self._web, self._retry, self._user_agent = web, retry, user_agent
        self._rules: dict[str, RobotFileParser] = {}

    async def check(self, url: str) -> None:
        """Raise UserError if the server does not want `url` followed; take up the pace that it asks for."""
        parts = urlsplit(url)
        origin = f"{parts.scheme}://{parts.netloc}"
        if origin not in self._rules:
            self._rules[origin] = await self._read(f"{origin}/robots.txt")
            delay = self._rules[origin].crawl_delay(self._user_agent)
            if delay is not None and float(delay) > 0:
                self._web.pace(url).slow_down(1 / float(delay))
        if not self._rules[origin].can_fetch(self._user_agent, url):
            raise UserError(
                f"{origin}/robots.txt asks programs not to follow {clean_url(url)}",
                expected="a folder whose links may be followed",
                fix="use a mirror (--mirror), or name the files in a list (--list)",
            )

    async def _read(self, url: str) -> RobotFileParser:
        rules = RobotFileParser()
        try:
            page = await self._retry.call(lambda: self._web.page(url), self._web.pace(url))
        except Exception as error:
            if meaning_of(error) is Meaning.PASSING:
                raise
            rules.parse([])  # no such file: everything may be followed
        else:
            rules.parse(page.content.decode(errors="replace").splitlines())
        return rules
