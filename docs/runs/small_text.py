"""Text for the walk-throughs of docs/runs, in the formats in which the text of the real runs comes; and token files.

    python docs/runs/small_text.py wikipedia gutenberg --output mirror        # mirror/wikipedia, mirror/gutenberg
    python docs/runs/small_text.py --tokens data/fineweb-edu-10b --as npy --output data/fineweb-npy

The text is documentation that every Python installation carries: the docstrings of its standard library, a document a
module, and the chapters of the language reference. Each kind of file gets other documents, so that no text comes twice.
Nothing is downloaded. Token files are a prepared set's own tokens, as nanoGPT, build-nanogpt and others write them.
"""

from __future__ import annotations

import argparse
import ast
import bz2
import gzip
import hashlib
import html
import json
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from trainer.data.corpus import help_topics, library_files
from trainer.data.shards import DatasetInfo, load_dataset_json, open_arrow_shard

SHORTEST_CHARACTERS = 400
Document = tuple[str, str]
NODES = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=", ".join(WRITERS))
    parser.add_argument("--tokens", type=Path, metavar="FOLDER", help="a prepared set whose tokens to write")
    parser.add_argument("--as", dest="form", choices=list(TOKEN_WRITERS), default="npy", help="their form")
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="folder to write")
    options = parser.parse_args()
    if not set(options.kinds) <= set(WRITERS) or bool(options.kinds) == bool(options.tokens):
        parser.error(f"name kinds of text ({', '.join(WRITERS)}), or a prepared set with --tokens")
    if options.tokens:
        write_tokens(options.tokens, options.form, options.output)
        return
    documents = list(library_documents())
    for number, kind in enumerate(options.kinds):
        folder = options.output / kind
        folder.mkdir(parents=True, exist_ok=True)
        mine = documents[number :: len(options.kinds)]
        WRITERS[kind](folder, mine)
        size = sum(len(text) for _, text in mine)
        print(f"{folder}: {len(mine)} documents, {size / 1e6:.1f} MB of text")


def library_documents() -> Iterator[Document]:
    """Name and text of each document; the same ones in the same order for one Python installation."""
    yield from help_topics()
    for name, path in library_files():
        if path.suffix == ".py" and not name.startswith(("test/", "idlelib/", "lib2to3/")):
            text = docstrings(path.read_text(encoding="utf-8", errors="replace"))
            if len(text) >= SHORTEST_CHARACTERS:
                yield name.removesuffix(".py").replace("/", "."), text


def docstrings(source: str) -> str:
    """All docstrings of a module, from its own to that of its last function."""
    found = (ast.get_docstring(node) for node in ast.walk(ast.parse(source)) if isinstance(node, NODES))
    return "\n\n".join(text for text in found if text)


def write_wikipedia(folder: Path, documents: list[Document]) -> None:
    """A dump as Wikimedia publishes it: multistream bz2 (a stream for the head, then 100 pages each), and its sum."""
    head = '<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/" version="0.11" xml:lang="en">\n'
    pages = [
        f"  <page>\n    <title>{html.escape(name)}</title>\n    <ns>0</ns>\n    <id>{number}</id>\n    <revision>\n"
        f'      <text xml:space="preserve">{html.escape(wikitext(name, text))}</text>\n    </revision>\n  </page>\n'
        for number, (name, text) in enumerate(documents, 1)
    ]
    streams = [head, *("".join(pages[i : i + 100]) for i in range(0, len(pages), 100)), "</mediawiki>\n"]
    packed = b"".join(bz2.compress(stream.encode()) for stream in streams)
    dump = folder / "enwiki-latest-pages-articles-multistream.xml.bz2"
    dump.write_bytes(packed)
    (folder / "enwiki-latest-sha1sums.txt").write_text(f"{hashlib.sha1(packed).hexdigest()}  {dump.name}\n")  # noqa: S324


def wikitext(name: str, text: str) -> str:
    """An article: a bold title, a link, an infobox that extraction drops, the text."""
    plain = text.replace("{{", "{ {").replace("[[", "[ [").replace("<", "").replace("'''", '"')
    return f"{{{{Infobox software|name={name}}}}}\n'''{name}''' is part of [[Python]].<ref>Its source.</ref>\n\n{plain}"


def write_gutenberg(folder: Path, documents: list[Document]) -> None:
    """Books with Project Gutenberg's header and licence, eight documents each, and the list of their paths."""
    paths = []
    for number, start in enumerate(range(0, len(documents), 8), 1):
        chapters = documents[start : start + 8]
        title = chapters[0][0].upper()
        book = "\n\n\n".join(f"CHAPTER {name}\n\n{text}" for name, text in chapters)
        path = folder / f"{number}/{number}-0.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text(
            f"The Project Gutenberg eBook of {title}\n\n*** START OF THE PROJECT GUTENBERG EBOOK {title} ***\n\n\n"
            f"{book}\n\n\n*** END OF THE PROJECT GUTENBERG EBOOK {title} ***\n\nSTART: FULL LICENSE\n",
            encoding="utf-8",
        )
        paths.append(f"{number}/{number}-0.txt\n")
    (folder / "books.txt").write_text("".join(paths))


def write_common_crawl(folder: Path, documents: list[Document]) -> None:
    """A crawl: a gzip member a record, each a page of HTML with menu and footer; and the list of its files."""
    path = folder / "CC-MAIN-00000.warc.gz"
    with path.open("wb") as file:
        for name, text in documents:
            paragraphs = "".join(f"<p>{html.escape(part)}</p>" for part in text.split("\n\n"))
            page = (
                f"<html><head><title>{name}</title></head><body><nav><a href=/>Home</a></nav><article><h1>{name}</h1>"
                f"{paragraphs}</article><footer>Imprint</footer></body></html>"
            )
            block = b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n" + page.encode()
            head = (
                f"WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: https://example.org/{name}\r\n"
                f"Content-Type: application/http; msgtype=response\r\nContent-Length: {len(block)}\r\n\r\n"
            )
            file.write(gzip.compress(head.encode() + block + b"\r\n\r\n"))
    (folder / "warc.paths.gz").write_bytes(gzip.compress(f"{path.name}\n".encode()))


def json_lines(file_name: str, field: str) -> Callable[[Path, list[Document]], None]:
    """A writer of one gzipped file of JSON lines whose text stands under `field`."""

    def write(folder: Path, documents: list[Document]) -> None:
        lines = (json.dumps({field: text, "url": f"https://example.org/{name}"}) + "\n" for name, text in documents)
        (folder / file_name).write_bytes(gzip.compress("".join(lines).encode()))

    return write


def write_parquet(folder: Path, documents: list[Document]) -> None:
    """Two parquet files with the column `text`, as most sets of the Hugging Face Hub have it."""
    for number in range(2):
        part = documents[number::2]
        table = pa.table({"text": [text for _, text in part], "id": [name for name, _ in part]})
        pq.write_table(table, folder / f"train-{number:05d}-of-00002.parquet")


def write_hellaswag(folder: Path, documents: list[Document]) -> None:
    """Items as HellaSwag's authors publish them: how a paragraph goes on, and how three of other documents do."""
    halves = []
    for _, text in documents:
        # So few and short words that an ending fits the smallest model's context.
        words = [word for word in max(text.split("\n\n"), key=len).split() if len(word) <= 12][:16]
        if len(words) == 16:
            halves.append((" ".join(words[:8]), " ".join(words[8:])))
    items = []
    for number, (context, _) in enumerate(halves):
        endings = [halves[(number + step) % len(halves)][1] for step in (0, 7, 19, 31)]
        label = number % 4
        items.append({"ind": number, "ctx": context, "endings": endings[-label:] + endings[:-label], "label": label})
    (folder / "hellaswag_val.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))


WRITERS: dict[str, Callable[[Path, list[Document]], None]] = {
    "wikipedia": write_wikipedia,
    "gutenberg": write_gutenberg,
    "openwebtext": json_lines("openwebtext-00.jsonl.gz", "text"),
    "common-crawl": write_common_crawl,
    "c4": json_lines("c4-train.00000-of-00001.json.gz", "text"),
    "reddit": json_lines("RC_2020-01.jsonl.gz", "body"),
    "web": write_parquet,
    "fineweb-edu": write_parquet,
    "slimpajama": write_parquet,
    "hellaswag": write_hellaswag,
}


def write_tokens(folder: Path, form: str, output: Path) -> None:
    """The tokens of the prepared set in `folder`, in another form."""
    info = load_dataset_json((folder / "dataset.json").read_bytes(), str(folder))
    output.mkdir(parents=True, exist_ok=True)
    for split, described in info.splits.items():
        shards = [open_arrow_shard(folder / shard.file) for shard in described.shards]
        tokens = np.concatenate([shard.head(shard.num_tokens) for shard in shards])
        TOKEN_WRITERS[form](output, split, tokens, info)
        print(f"{output}: {split}, {len(tokens):,} tokens")


Tokens = np.ndarray[tuple[int], np.dtype[np.uint16]]


def write_npy(output: Path, split: str, tokens: Tokens, info: DatasetInfo) -> None:  # noqa: ARG001
    """As build-nanogpt's fineweb.py: flat arrays of uint16, `val` in the name of what is for validation."""
    short = {"train": "train", "validation": "val"}[split]
    for number, part in enumerate(np.array_split(tokens, 4 if split == "train" else 1)):
        np.save(output / f"edufineweb_{short}_{number:06d}.npy", part)


def write_npz(output: Path, split: str, tokens: Tokens, info: DatasetInfo) -> None:  # noqa: ARG001
    """Compressed archives in nested folders: five for training, one for validation."""
    for number, part in enumerate(np.array_split(tokens, 5 if split == "train" else 1)):
        path = output / split / f"part-{number % 2}" / f"{'val' if split == 'validation' else 'shard'}_{number:04d}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(path, tokens=part)


def write_nanogpt(output: Path, split: str, tokens: Tokens, info: DatasetInfo) -> None:
    """As nanoGPT's prepare.py: bare uint16 in train.bin and val.bin, the vocabulary in meta.pkl."""
    tokens.tofile(output / {"train": "train.bin", "validation": "val.bin"}[split])
    (output / "meta.pkl").write_bytes(pickle.dumps({"vocab_size": info.tokenizer.vocab_size}))


TOKEN_WRITERS = {"npy": write_npy, "npz": write_npz, "nanogpt": write_nanogpt}


if __name__ == "__main__":
    main()
