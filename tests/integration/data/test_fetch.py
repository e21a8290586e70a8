"""Fetching from a web server that drops, throttles, changes files and lies about lengths."""

from __future__ import annotations

import hashlib
import random
import re
import subprocess
import tempfile
from itertools import pairwise
from pathlib import Path

import pytest
import stamina
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.integration.data.conftest import FIRST, KIB, PIECE, Bring
from tests.integration.data.troubled_web import Manner, TroubledWeb, troubled_web
from trainer.data.fetch.report import Report
from trainer.errors import UserError

CONTENT = random.Random(7).randbytes(700 * KIB)


def stored(tmp_path: Path, name: str = "f") -> bytes | None:
    path = tmp_path / "out" / name
    return path.read_bytes() if path.exists() else None


def only(report: Report) -> tuple[str, str | None]:
    (outcome,) = report.files
    return outcome.action, outcome.problem


def asked_ranges(web: TroubledWeb, path: str = "/f") -> list[tuple[int, int]]:
    found = (re.fullmatch(r"bytes=(\d+)-(\d*)", seen.headers["range"]) for seen in web.requests_of(path))
    return [(int(match[1]), int(match[2] or -1)) for match in found if match is not None]


@pytest.mark.parametrize("size", [0, 1, FIRST - 1, FIRST, FIRST + 1, FIRST + PIECE, FIRST + PIECE + 1, 700 * KIB])
@pytest.mark.parametrize("ranges", [True, False])
def test_any_size_arrives(size: int, ranges: bool, web: TroubledWeb, bring: Bring, tmp_path: Path) -> None:
    report = bring(web.put("/f", CONTENT[:size], Manner(ranges=ranges)))
    assert (only(report), stored(tmp_path)) == (("fetched", None), CONTENT[:size])
    assert report.exit_code == 0


def test_a_large_file_comes_in_pieces_each_asked_for_once(web: TroubledWeb, bring: Bring, tmp_path: Path) -> None:
    bring(web.put("/f", CONTENT))
    first, *rest = asked_ranges(web)
    assert first == (0, FIRST - 1)
    assert [start for start, _ in sorted(rest)] == list(range(FIRST, len(CONTENT), PIECE))
    assert web.sent_bytes == len(CONTENT)
    assert all("if-range" in seen.headers for seen in web.seen[1:])
    assert all(seen.headers["user-agent"].startswith("gpt-run/") for seen in web.seen)


@pytest.mark.parametrize("ranges", [True, False])
def test_dropped_connections_go_on_at_the_byte_where_they_can(
    ranges: bool, web: TroubledWeb, bring: Bring, tmp_path: Path
) -> None:
    url = web.put("/f", CONTENT, Manner(ranges=ranges, cut_after=50 * KIB, cuts=10**9 if ranges else 2))
    assert only(bring(url)) == ("fetched", None)
    assert stored(tmp_path) == CONTENT
    assert web.sent_bytes == len(CONTENT) + (0 if ranges else 2 * 50 * KIB)


def test_a_failed_file_goes_on_in_the_next_fetch(web: TroubledWeb, bring: Bring, tmp_path: Path) -> None:
    gone = Manner(answers=[(404, {})] * 20)
    url = web.put("/f", CONTENT, Manner(cut_after=40 * KIB, then=gone))
    assert only(bring(url)) == ("failed", "missing")
    assert stored(tmp_path) is None
    assert not (tmp_path / "out" / "SHA256SUMS").exists()
    web.manners["/f"] = Manner()
    web.sent_bytes = 0
    assert only(bring(url)) == ("fetched", None)
    assert stored(tmp_path) == CONTENT
    assert web.sent_bytes == len(CONTENT) - 40 * KIB


@pytest.mark.parametrize(
    "then",
    [
        Manner(),
        Manner(honours_if_range=False),
        Manner(honours_if_range=False, etag="none"),
        Manner(etag="weak"),
        Manner(etag="none", modified=False),
        Manner(ranges=False),
    ],
    ids=["ranges", "no If-Range", "dates only", "weak etags", "no versions", "no ranges"],
)
@pytest.mark.parametrize("resize", [0, 1, -1])
def test_a_file_that_changed_meanwhile_is_not_joined(
    then: Manner, resize: int, web: TroubledWeb, bring: Bring, tmp_path: Path
) -> None:
    gone = Manner(answers=[(404, {})] * 20)
    same = {"etag": then.etag, "modified": then.modified}
    url = web.put("/f", CONTENT, Manner(cut_after=40 * KIB, then=gone, **same))
    assert only(bring(url)) == ("failed", "missing")
    changed = bytes([CONTENT[0] ^ 1]) + CONTENT[1 : len(CONTENT) + resize] + b"x" * max(0, resize)
    web.put("/f", changed, then)
    assert only(bring(url)) == ("fetched", None)
    assert stored(tmp_path) == changed


def test_a_file_that_never_stops_changing_is_given_up(web: TroubledWeb, bring: Bring, tmp_path: Path) -> None:
    report = bring(web.put("/f", CONTENT, Manner(new_version_every=1, cut_after=500 * KIB)))
    assert (only(report), stored(tmp_path), report.exit_code) == (("failed", "changed"), None, 2)


def test_versions_that_differ_from_answer_to_answer_are_read_in_one(
    web: TroubledWeb, bring: Bring, tmp_path: Path
) -> None:
    """As behind a load balancer whose servers give the same bytes other ETags."""
    report = bring(web.put("/f", CONTENT, Manner(new_version_every=1)))
    assert only(report) == ("fetched", None)
    assert stored(tmp_path) == web.files["/f"]


def test_a_wrong_length_of_a_part_is_found_by_the_range(web: TroubledWeb, bring: Bring, tmp_path: Path) -> None:
    assert only(bring(web.put("/f", CONTENT, Manner(extra_length=100)))) == ("fetched", None)
    assert stored(tmp_path) == CONTENT
    report = bring(web.put("/g", CONTENT, Manner(extra_length=-100)), retry_seconds=1)
    assert (only(report)[0], stored(tmp_path, "g")) == ("failed", None)


def test_a_length_longer_than_the_file_is_an_error_with_the_offset(
    web: TroubledWeb, bring: Bring, tmp_path: Path
) -> None:
    content = CONTENT[: 100 * KIB]
    report = bring(web.put("/f", content, Manner(ranges=False, extra_length=100)), retry_seconds=1)
    assert (only(report), report.exit_code, stored(tmp_path)) == (("failed", "truncated"), 2, None)
    message = report.files[0].message or ""
    assert message.startswith(f"{web.url}/f: ")
    # How much of it arrived before the end of the connection did is up to the system.
    place = re.search(r"at byte (\d+)", message)
    assert place is not None
    assert 0 <= int(place[1]) <= len(content)
    assert f"Content-Length {len(content) + 100} were promised" in message


def test_a_length_shorter_than_the_file_is_found_by_its_hash(web: TroubledWeb, bring: Bring, tmp_path: Path) -> None:
    (tmp_path / "sums").write_text(f"{hashlib.sha1(CONTENT).hexdigest()}  f\n")
    url = web.put("/f", CONTENT, Manner(ranges=False, extra_length=-100))
    report = bring(url, checksums=str(tmp_path / "sums"))
    assert (only(report), report.exit_code, stored(tmp_path)) == (("failed", "checksum"), 2, None)
    assert hashlib.sha1(CONTENT[:-100]).hexdigest() in (report.files[0].message or "")


def test_chunks_need_no_length(web: TroubledWeb, bring: Bring, tmp_path: Path) -> None:
    manner = Manner(ranges=False, framing="chunked", etag="none", modified=False, cut_after=100 * KIB, cuts=1)
    assert only(bring(web.put("/f", CONTENT, manner))) == ("fetched", None)
    assert stored(tmp_path) == CONTENT


def test_an_end_that_could_be_a_cut_needs_a_hash(web: TroubledWeb, bring: Bring, tmp_path: Path) -> None:
    url = web.put("/f", CONTENT, Manner(ranges=False, framing="close"))
    report = bring(url)
    assert (only(report), stored(tmp_path)) == (("failed", "truncated"), None)
    assert "--checksums" in (report.files[0].message or "")
    (tmp_path / "sums").write_text(f"{hashlib.sha256(CONTENT).hexdigest()}  f\n")
    assert only(bring(url, checksums=str(tmp_path / "sums"))) == ("fetched", None)
    web.manners["/f"].cut_after, web.manners["/f"].cuts = 90 * KIB, 1
    (tmp_path / "out" / "f").unlink()
    assert only(bring(url, checksums=str(tmp_path / "sums"))) == ("fetched", None)
    assert stored(tmp_path) == CONTENT


def test_another_range_than_asked_for_is_refused(web: TroubledWeb, bring: Bring, tmp_path: Path) -> None:
    report = bring(web.put("/f", CONTENT, Manner(shift=10)))
    assert (only(report), stored(tmp_path)) == (("failed", "malformed"), None)
    assert "asked for bytes 0 to" in (report.files[0].message or "")


def test_a_missing_file_stops_the_fetch_or_is_counted(web: TroubledWeb, bring: Bring, tmp_path: Path) -> None:
    good = web.put("/f", CONTENT)
    stopped = bring(f"{web.url}/missing", good, streams=1)
    assert (stopped.exit_code, stopped.stopped, [o.action for o in stopped.files]) == (2, True, ["failed"])
    skipped = bring(f"{web.url}/missing", good, on_error="skip")
    assert (skipped.exit_code, [o.problem for o in skipped.files]) == (0, ["missing", None])
    assert "HTTP status 404" in (skipped.files[0].message or "")
    assert stored(tmp_path) == CONTENT
    assert (tmp_path / "out" / "SHA256SUMS").read_text() == f"{hashlib.sha256(CONTENT).hexdigest()}  f\n"


def test_a_server_that_is_busy_is_left_alone_until_it_says_so(web: TroubledWeb, bring: Bring, tmp_path: Path) -> None:
    url = web.put("/f", CONTENT, Manner(answers=[(429, {"Retry-After": "1"}), (503, {"Retry-After": "1"}), (503, {})]))
    assert only(bring(url)) == ("fetched", None)
    assert stored(tmp_path) == CONTENT
    times = [seen.time for seen in web.seen[:3]]
    assert all(later - earlier >= 1 for earlier, later in pairwise(times))


@pytest.mark.parametrize("headers", [{"Retry-After": "3600"}, {}])
def test_a_server_that_stays_busy_is_given_up_as_a_failure_that_may_heal(
    headers: dict[str, str], web: TroubledWeb, bring: Bring
) -> None:
    report = bring(web.put("/f", CONTENT, Manner(answers=[(503, headers)] * 50)), retry_seconds=1)
    assert (only(report), report.exit_code) == (("failed", "busy"), 1)
    assert "HTTP status 503" in (report.files[0].message or "")


def test_silence_is_cut_short(web: TroubledWeb, bring: Bring, tmp_path: Path) -> None:
    assert only(bring(web.put("/f", CONTENT, Manner(silent=1)), timeout_seconds=0.3)) == ("fetched", None)
    assert stored(tmp_path) == CONTENT


def test_a_dead_server_ends_the_fetch_even_where_files_may_fail(web: TroubledWeb, bring: Bring) -> None:
    urls = [f"http://127.0.0.1:9/{number}" for number in range(8)]
    report = bring(*urls, on_error="skip", streams=3, retry_seconds=0.1)
    assert (report.stopped, report.exit_code) == (True, 1)
    assert {o.problem for o in report.files} == {"unreachable"}
    assert len(report.files) < len(urls)


def test_what_is_here_is_skipped_and_what_differs_is_not(web: TroubledWeb, bring: Bring, tmp_path: Path) -> None:
    url = web.put("/f", CONTENT)
    bring(url)
    sent = web.sent_bytes
    assert only(bring(url)) == ("skipped", None)
    assert web.sent_bytes == sent + 1  # the byte that asks for the size
    damaged = b"x" + CONTENT[1:]
    (tmp_path / "out" / "f").write_bytes(damaged)
    assert only(bring(url, compare="size")) == ("skipped", None)
    assert only(bring(url)) == ("replaced", None)
    assert stored(tmp_path) == CONTENT
    web.put("/f", damaged)
    assert only(bring(url, compare="size")) == ("replaced", None)
    web.put("/f", damaged[:-1])
    assert only(bring(url)) == ("replaced", None)
    assert stored(tmp_path) == damaged[:-1]
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=tmp_path / "out", check=True)


def test_files_of_others_are_taken_for_what_their_hash_says(web: TroubledWeb, bring: Bring, tmp_path: Path) -> None:
    url = web.put("/f", CONTENT, Manner(etag="none", modified=False))
    (tmp_path / "sums").write_text(f"{hashlib.md5(CONTENT).hexdigest()}  f\n")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "f").write_bytes(CONTENT)
    assert only(bring(url, checksums=str(tmp_path / "sums"))) == ("skipped", None)
    (tmp_path / "out" / "f").write_bytes(b"x" + CONTENT[1:])
    assert only(bring(url, checksums=str(tmp_path / "sums"))) == ("replaced", None)
    assert stored(tmp_path) == CONTENT


def test_times_are_those_of_the_server(web: TroubledWeb, bring: Bring, tmp_path: Path) -> None:
    bring(web.put("/f", CONTENT))
    assert (tmp_path / "out" / "f").stat().st_mtime == 1_700_000_000 + CONTENT[0]


def test_a_folder_keeps_its_nesting_and_is_checked_by_its_sums(web: TroubledWeb, bring: Bring, tmp_path: Path) -> None:
    files = {"a.txt": b"a", "sub/deep/b c&d.txt": b"b", "sub/é.txt": b"c", "sub/empty": b""}
    for name, content in files.items():
        web.put(f"/data/{name}", content)
    web.put("/elsewhere/x", b"x")
    sums = "".join(f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in files.items())
    web.put("/data/SHA256SUMS", sums.encode())
    report = bring(f"{web.url}/data/")
    assert {o.name for o in report.files} == {*files}
    assert {name: stored(tmp_path, name) for name in files} == files
    web.put("/data/a.txt", b"z")
    (tmp_path / "out" / "a.txt").unlink()
    assert [o.problem for o in bring(f"{web.url}/data/").files if o.problem] == ["checksum"]
    assert only(bring(f"{web.url}/data/", include=["*.txt"], exclude=["*/b*", "a*"])) == ("skipped", None)


def test_robots_are_asked_before_links_are_followed(web: TroubledWeb, bring: Bring) -> None:
    web.put("/private/x", b"x")
    web.put("/open/x", b"x")
    web.put("/robots.txt", b"User-agent: *\nCrawl-delay: 1\nDisallow: /private/\n")
    with pytest.raises(UserError, match=r"robots.txt asks programs not to follow"):
        bring(f"{web.url}/private/")
    assert bring(f"{web.url}/private/x").exit_code == 0
    web.seen.clear()
    assert bring(f"{web.url}/open/").exit_code == 0
    pages = [seen.time for seen in web.seen if seen.path != "/robots.txt"]
    assert all(later - earlier >= 0.99 for earlier, later in pairwise(pages))


def test_a_folder_without_its_slash_is_no_file(web: TroubledWeb, bring: Bring) -> None:
    web.put("/data/x", b"x")
    url = web.put("/data", b"", Manner(answers=[(301, {"Location": "/data/"})] * 9))
    report = bring(url)
    assert only(report) == ("failed", "malformed")
    assert "end the URL with /" in (report.files[0].message or "")


def test_a_folder_that_is_not_there_is_named(web: TroubledWeb, bring: Bring) -> None:
    with pytest.raises(UserError, match=r"/nowhere/: .*404"):
        bring(f"{web.url}/nowhere/")
    with pytest.raises(UserError, match="a page of type application/octet-stream"):
        bring(web.put("/data/", b"not html"))


def test_rates_hold(web: TroubledWeb, bring: Bring) -> None:
    urls = [web.put(f"/{number}", CONTENT[:10]) for number in range(6)]
    assert bring(*urls, requests_per_second=10).exit_code == 0
    times = sorted(seen.time for seen in web.seen)
    assert times[-1] - times[0] >= 0.45
    report = bring(web.put("/f", CONTENT), bytes_per_second=len(CONTENT))
    assert report.seconds > 0.5


def test_a_dry_run_tells_sizes_and_writes_nothing(web: TroubledWeb, bring: Bring, tmp_path: Path) -> None:
    urls = [web.put("/f", CONTENT), web.put("/g", b"", Manner(ranges=False)), f"{web.url}/missing"]
    report = bring(*urls, dry_run=True, on_error="skip")
    assert [(o.name, o.bytes, o.action) for o in report.files] == [
        ("f", len(CONTENT), "fetched"),
        ("g", 0, "fetched"),
        ("missing", None, "failed"),
    ]
    assert not (tmp_path / "out").exists()


def test_lists_and_sums_come_from_the_web_too(web: TroubledWeb, bring: Bring, tmp_path: Path) -> None:
    web.put("/crawl/a/1.gz", b"one")
    web.put("/crawl/b/1.gz", b"two")
    paths = web.put("/paths", b"a/1.gz\nb/1.gz\n")
    sums = web.put("/md5sums", f"{hashlib.md5(b'two').hexdigest()}  b/1.gz\n".encode())
    report = bring(lists=(paths,), base=f"{web.url}/crawl", checksums=sums)
    assert (report.exit_code, stored(tmp_path, "a/1.gz"), stored(tmp_path, "b/1.gz")) == (0, b"one", b"two")


def test_a_file_in_the_way_of_a_folder_is_named(web: TroubledWeb, bring: Bring, tmp_path: Path) -> None:
    (tmp_path / "list").write_text(f"{web.put('/f', b'x')} a/f\n")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a").touch()
    with pytest.raises(UserError, match="a is a file"):
        bring(lists=(str(tmp_path / "list"),))
    (tmp_path / "out" / "f").mkdir()
    with pytest.raises(UserError, match="f is a folder"):
        bring(f"{web.url}/f")


manners = st.builds(
    Manner,
    ranges=st.booleans(),
    etag=st.sampled_from(["strong", "weak", "none"]),
    modified=st.booleans(),
    honours_if_range=st.booleans(),
    framing=st.sampled_from(["length", "chunked", "close"]),
    extra_length=st.sampled_from([0, 0, 0, 5, -5]),
    shift=st.sampled_from([0, 0, 0, 0, -3]),
    cut_after=st.none() | st.integers(1, 200 * KIB),
    cuts=st.integers(0, 4),
    answers=st.lists(st.sampled_from([(429, {"Retry-After": "0"}), (404, {})]), max_size=1),
    new_version_every=st.sampled_from([None, None, 2, 3]),
)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(size=st.integers(0, 300 * KIB), manner=manners, known=st.booleans(), seed=st.integers(0, 255))
def test_whatever_a_server_does_a_file_is_whole_or_absent(
    size: int, manner: Manner, known: bool, seed: int, bring: Bring, tmp_path: Path
) -> None:
    """Two fetches, of which the first may fail; a version may be any that the server held, but never a mixture."""
    folder = Path(tempfile.mkdtemp(dir=tmp_path)) / "out"
    content = bytes([seed]) + CONTENT[:size]
    with troubled_web() as web:
        # A length that lies low cannot be told from the truth without ranges or a hash.
        undetectable = manner.extra_length < 0 and not manner.ranges and manner.framing == "length"
        url = web.put("/f", content, manner)
        options: dict[str, object] = {"output": str(folder)}
        if known or undetectable:
            (tmp_path / "sums").write_text(f"{hashlib.sha256(content).hexdigest()}  f\n")
            options["checksums"] = str(tmp_path / "sums")
        for _ in range(2):
            with stamina.set_testing(True, attempts=4):
                report = bring(url, **options)
            found = (folder / "f").read_bytes() if (folder / "f").exists() else None
            assert (found is None) == (report.files[0].action == "failed")
            if found is not None:
                whole = {content[turn:] + content[:turn] for turn in range(min(len(content), 30))}
                assert found in whole
