"""datatrove's way from text in JSON lines to tokens, with the rules of our side. Started by whole_pipeline.py.

    python -m benchmarks.whole_pipeline_datatrove FOLDER OUTPUT

FOLDER has text/*.jsonl and tokenizer.json. Four stages as its examples have them (examples/fineweb.py and
minhash_deduplication.py), made cheap where it lets us choose: filters and signatures in one pass, text between stages
not compressed, workers forked, documents not shuffled. Words and sentences are split as on our side, by a word
tokenizer of our own.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from trainer.data.clean.c4 import num_sentences

try:
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.dedup import MinhashDedupSignature
    from datatrove.pipeline.dedup.minhash import (
        MinhashConfig,
        MinhashDedupBuckets,
        MinhashDedupCluster,
        MinhashDedupFilter,
    )
    from datatrove.pipeline.filters import C4QualityFilter, GopherQualityFilter, GopherRepetitionFilter
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.tokens import DocumentTokenizer
    from datatrove.pipeline.writers import JsonlWriter
    from datatrove.utils.word_tokenizers import WordTokenizer
except ModuleNotFoundError as error:
    sys.exit(f"{error}: pip install 'gpt-run[peers]'")


class Words(WordTokenizer):  # type: ignore[misc]  # datatrove is not typed
    """Words between white space, and as many sentences as our filter counts."""

    def word_tokenize(self, text: str) -> list[str]:
        return text.split()

    def sent_tokenize(self, text: str) -> list[str]:
        return [""] * num_sentences(text)

    def span_tokenize(self, text: str) -> list[tuple[int, int]]:
        return [(0, 0)] * num_sentences(text)


def main() -> None:
    folder, output = Path(sys.argv[1]), Path(sys.argv[2])
    os.environ |= {"TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}
    files = len(list((folder / "text").iterdir()))
    words = Words()
    config = MinhashConfig(n_grams=5, num_buckets=14, hashes_per_bucket=8)
    text, signatures, pairs, clusters = (str(output / name) for name in ("text", "signatures", "pairs", "clusters"))
    stages = [
        (
            files,
            [
                JsonlReader(str(folder / "text"), compression=None),
                GopherQualityFilter(language=words),
                GopherRepetitionFilter(language=words),
                C4QualityFilter(language=words),
                JsonlWriter(text, compression=None),
                MinhashDedupSignature(signatures, config=config, language=words),
            ],
        ),
        (config.num_buckets, [MinhashDedupBuckets(signatures, pairs, config=config)]),
        (1, [MinhashDedupCluster(pairs, clusters, config=config)]),
        (
            files,
            [
                JsonlReader(text, compression=None),
                MinhashDedupFilter(clusters),
                DocumentTokenizer(
                    str(output / "tokens"),
                    str(folder / "tokenizer.json"),
                    eos_token="<|endoftext|>",
                    shuffle_documents=False,
                ),
            ],
        ),
    ]
    workers = len(os.sched_getaffinity(0))
    for number, (tasks, pipeline) in enumerate(stages):
        logs = str(output / f"logs-{number}")
        LocalPipelineExecutor(
            pipeline, tasks=tasks, workers=min(tasks, workers), logging_dir=logs, start_method="fork"
        ).run()


if __name__ == "__main__":
    main()
