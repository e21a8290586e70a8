"""Real samples that packages carry; none is kept in the repository."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.cluster.tools import cache_root, locked

# Its wheel carries shortened dumps of Wikipedia, under Wikipedia's licence.
GENSIM = "gensim==4.4.0"
ARTICLES = "enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2"
IN_UTF16 = "bgwiki-latest-pages-articles-shortened.xml.bz2"


@pytest.fixture(scope="session")
def gensim_samples() -> Path:
    """Folder with the dumps of gensim's tests, downloaded once. Skips the test where that cannot be done."""
    folder = cache_root() / "samples" / GENSIM
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / "lock"):
        if not all((folder / name).is_file() for name in (ARTICLES, IN_UTF16)):
            with tempfile.TemporaryDirectory(dir=folder) as target:
                _install(Path(target))
                for name in (ARTICLES, IN_UTF16):
                    (Path(target) / "gensim/test/test_data" / name).replace(folder / name)
    return folder


@pytest.fixture(scope="session")
def dump(gensim_samples: Path) -> Path:
    """The first 106 articles, and 100 redirects, of the English Wikipedia as of 2016: one bz2 stream, 6 MB of XML."""
    return gensim_samples / ARTICLES


def _install(target: Path) -> None:
    uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    if uv is None and importlib.util.find_spec("pip") is None:
        pytest.skip(f"{GENSIM} cannot be installed: neither uv nor pip is here")
    command = [uv, "pip"] if uv is not None else [sys.executable, "-m", "pip"]
    command += ["install", "--quiet", "--no-deps", "--only-binary", ":all:", "--target", str(target), GENSIM]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        reason = (result.stderr.strip() or "no output").splitlines()[-1]
        pytest.skip(f"{GENSIM} cannot be installed: {reason}")
