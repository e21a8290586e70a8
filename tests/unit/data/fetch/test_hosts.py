"""What servers ask of programs is asked of the user before the first request."""

from __future__ import annotations

import pytest

from trainer.data.fetch.config import FetchConfig
from trainer.data.fetch.hosts import check_host, mirrored
from trainer.errors import UserError


def test_the_longest_beginning_picks_the_mirror() -> None:
    mirrors = {"https://h/": "https://m/all/", "https://h/files/": "http://n/"}
    assert mirrored("https://h/files/1/1.txt", mirrors) == "http://n/1/1.txt"
    assert mirrored("https://h/other", mirrors) == "https://m/all/other"
    assert mirrored("https://elsewhere/x", mirrors) == "https://elsewhere/x"


@pytest.mark.parametrize(
    ("url", "fix"),
    [
        ("https://www.gutenberg.org/cache/epub/1/pg1.txt", "--mirror"),
        ("http://gutenberg.org/files/1/", "--mirror"),
        ("https://dumps.wikimedia.org/enwiki/latest/x.xml.bz2", "--contact"),
        ("https:///path", "correct the URL"),
    ],
)
def test_what_a_server_would_block_is_refused_here(url: str, fix: str) -> None:
    with pytest.raises(UserError) as caught:
        check_host(url, FetchConfig())
    assert fix in caught.value.fix


def test_a_contact_opens_wikimedia_and_is_told() -> None:
    config = FetchConfig(contact="mailto:me@example.org")
    check_host("https://dumps.wikimedia.org/x", config)
    check_host("https://gutenberg.example.net/x", FetchConfig())
    assert config.user_agent.endswith(" (mailto:me@example.org)")
    assert FetchConfig().user_agent.startswith("gpt-run/")
