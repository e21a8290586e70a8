"""Write what a teacher says of a run's training data beside it, so that the run needs no teacher in memory.

Called by `gpt-run data teach`. One process on one device; it goes on where it was stopped. What it writes is what a
live teacher with the same `top_k` would say, so a run with `distill.cache` trains as one without.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from trainer.checkpoint.ranks import Ranks
from trainer.checkpoint.store import open_run
from trainer.config import RunConfig
from trainer.data.order import Int64
from trainer.data.progress import progress
from trainer.data.split import TokenSplit
from trainer.data.teacher_logits import CacheFolder, Entries, write_logits
from trainer.errors import UserError
from trainer.model.distillation import TopTargets
from trainer.parallel.precision import check_precision
from trainer.train.datasets import open_data
from trainer.train.step import to_device
from trainer.train.teacher import LiveTeacher, cache_folders, find_teaching


@dataclass(frozen=True)
class Taught:
    """What was written, or was there before."""

    teacher: str
    """URL of the checkpoint, or the model folder."""
    folders: list[Path]
    """One for each training source."""
    bytes: int


def teach(config: RunConfig) -> Taught:
    """Write the logits of all samples of the run's training sources. UserError where the run is none with a cache."""
    if config.task != "distill" or config.distill is None or config.distill.top_k is None:
        raise UserError(
            "this run has no teacher whose logits could be written",
            expected="a run file with task: distill and distill.top_k",
            fix="set both, for example --set distill.top_k=32",
        )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    check_precision(config.precision, device)
    data = open_data(config)
    without_cache = config.distill.model_copy(update={"cache": False})
    run_store = open_run(config.checkpoint.store, config.name)
    teaching = find_teaching(config.model_copy(update={"distill": without_cache}), run_store, data, Ranks(None))
    assert teaching is not None
    folders = cache_folders(teaching.config, data, teaching.description)
    teacher = LiveTeacher(
        teaching.config, teaching.description, mesh=None, device=device, document_end_id=data.document_end_id
    )
    total_bytes = sum(folder.file_bytes(number) for folder in folders for number in range(folder.files))
    with progress("teaching", total_bytes) as advance:
        for folder, split in zip(folders, data.train, strict=True):
            sayings = _Sayings(teacher, folder, split, config.batch.micro_sequences, device)
            for num_bytes in write_logits(folder, asdict(teaching.record), sayings.of):
                advance(num_bytes)
    return Taught(teaching.record.url, [folder.path for folder in folders], total_bytes)


@dataclass(frozen=True)
class _Sayings:
    """What a teacher says of the samples of a split."""

    teacher: LiveTeacher
    folder: CacheFolder
    split: TokenSplit
    micro_sequences: int
    device: torch.device

    def of(self, samples: Int64) -> Entries:
        """Entries [n, T, K] of samples [n]."""
        length = self.folder.key.sequence_length
        out = np.empty((len(samples), length, self.folder.key.top_k), self.folder.dtype)
        for start in range(0, len(samples), self.micro_sequences):
            part = slice(start, start + self.micro_sequences)
            tokens = np.empty((len(samples[part]), length + 1), dtype=np.int64)
            self.split.read(samples[part], tokens)
            targets, _ = self.teacher.targets(to_device(tokens[:, :-1], self.device))
            assert isinstance(targets, TopTargets)
            out[part]["id"] = targets.ids.cpu().numpy().reshape(out[part].shape)
            out[part]["logit"] = targets.logits.cpu().numpy().reshape(out[part].shape)
        return out
