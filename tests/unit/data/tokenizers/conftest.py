"""Text, tokenizers and files that the tests of this folder share."""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from tests.cluster.tools import cache_root, locked
from trainer.data import corpus
from trainer.data.tokenizers.config import BpeTokenizer, Style
from trainer.data.tokenizers.train import train_tokenizer

# The rank files that this release carries in its source: GPT-2's ids, and a vocabulary with a hole.
WHISPER = "openai-whisper==20250625"
RANK_FILES = {
    "gpt2.tiktoken": "306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930",
    "multilingual.tiktoken": "b34b360dbb493e781e479794586d661700670d65564001f23024971d1f2fa126",
}
# Scripts, signs and white space that the Python library has little of.
FOREIGN = [
    "\u0397 γρήγορη αλεπού, 敏捷的棕色狐狸跳过懒狗。 Быстрая лиса — 12½ раз! 素早い茶色の狐",
    "हिन्दी में एक वाक्य ٣٤ عربي\u00a0نص \u3000全角 ①②③ ǅ ʰ e\u0301 ﬁ ß ẞ \u0130 \u0131 \u017f",
    "\u200d\U0001f469\u200d\U0001f680 \U0001d11e",
    "  \t\r\n\r\n   spaces\u2003here \n\n\n\tand there   ",
    "don't DON'T I'LL we'Ve 'tis 1234567 3.14 __init__ a=b//c <|endoftext|> </s> <0x0A> \x00\x1f",
]


@pytest.fixture(scope="session")
def library_texts() -> list[str]:
    """Some text of this Python installation, and what it has little of."""
    texts: list[str] = []
    for _, path in corpus.library_files():
        texts.append(path.read_text(encoding="utf-8", errors="replace"))
        if sum(map(len, texts)) > 150_000:
            break
    return [*texts, *FOREIGN]


@pytest.fixture(scope="session")
def trained(library_texts: list[str]) -> dict[Style, Tokenizer]:
    """A tokenizer of each style."""
    sizes: dict[Style, int] = {"byte-level": 1000, "gpt2": 1200, "llama": 2000}
    return {
        style: train_tokenizer(BpeTokenizer(type="bpe", style=style, vocab_size=size), library_texts)
        for style, size in sizes.items()
    }


@pytest.fixture(scope="session")
def rank_files() -> Path:
    """A folder with the rank files; skips where the package index cannot be reached."""
    folder = cache_root() / "test-files" / WHISPER.replace("==", "-")
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / ".lock"):
        if not all((folder / name).is_file() for name in RANK_FILES):
            fetch_rank_files(folder)
    for name, sha256 in RANK_FILES.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == sha256
    return folder


def fetch_rank_files(folder: Path) -> None:
    if shutil.which("uv") is not None:
        installer = ["uv", "pip", "install", "--python", sys.executable]
    elif importlib.util.find_spec("pip") is not None:
        installer = [sys.executable, "-m", "pip", "install"]
    else:
        pytest.skip("the rank files of openai-whisper: neither uv nor pip is here to fetch them")
    target = folder / "package"
    command = [*installer, "--quiet", "--no-deps", "--no-binary", "openai-whisper", "--target", str(target), WHISPER]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        pytest.skip(f"the rank files of {WHISPER} cannot be fetched: {result.stderr.strip().splitlines()[-1]}")
    for name in RANK_FILES:
        (target / "whisper" / "assets" / name).replace(folder / name)
    shutil.rmtree(target)
