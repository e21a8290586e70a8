"""Facts from the listings of the stores' clients."""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime
from types import SimpleNamespace

from trainer.data.fetch.checksums import Hash
from trainer.data.fetch.objects import facts_of
from trainer.data.fetch.remote import Facts

MD5 = hashlib.md5(b"content")
CHANGED = datetime(2024, 1, 1, tzinfo=UTC)


def test_s3_etags_are_versions_and_vouch_for_no_content() -> None:
    entry = {"ETag": f'"{MD5.hexdigest()}"', "LastModified": CHANGED, "size": 7, "type": "file"}
    assert facts_of(entry) == Facts(7, f'"{MD5.hexdigest()}"', CHANGED.timestamp())


def test_gcs_keeps_an_md5_and_counts_generations() -> None:
    entry = {"md5Hash": base64.b64encode(MD5.digest()).decode(), "generation": "17", "etag": "x", "size": 7}
    assert facts_of({**entry, "mtime": CHANGED}) == Facts(7, "17", CHANGED.timestamp(), Hash("md5", MD5.hexdigest()))


def test_azure_keeps_the_md5_that_it_was_given() -> None:
    entry = {"etag": '"0x8"', "last_modified": CHANGED, "size": 7}
    with_md5 = {**entry, "content_settings": SimpleNamespace(content_md5=bytearray(MD5.digest()))}
    assert facts_of(with_md5).known == Hash("md5", MD5.hexdigest())
    assert facts_of({**entry, "content_settings": SimpleNamespace(content_md5=None)}).known is None


def test_a_disk_has_times_only() -> None:
    assert facts_of({"size": 7, "mtime": 12.5, "type": "file"}) == Facts(7, "12.5", 12.5)
    assert facts_of({"size": None, "type": "other"}) == Facts()
