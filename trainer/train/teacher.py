"""The teacher of a distillation run: which one it is, whether it fits, and what it says of a micro-batch.

Called by `trainer.train.setup`, by the train step for a `Lesson` with each micro-batch, and by `gpt-run data teach`.
A teacher is in memory, sharded like the student and never saved, or on the disk, as the largest logits of every
position (`trainer.data.teacher_logits`).

Shapes: B sequences, T tokens, N = B * T, E width of the teacher, K logits kept of each position.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, register_fsdp_forward_method

from trainer.checkpoint.layout import PROGRESS
from trainer.checkpoint.ranks import Ranks
from trainer.checkpoint.references import resolve
from trainer.checkpoint.store import Store
from trainer.config import RunConfig
from trainer.data.split import TokenizerInfo
from trainer.data.teacher_logits import CacheFolder, CacheKey, Entries, LogitsReader
from trainer.errors import UserError
from trainer.evaluate.identity import ModelIdentity, identify_model
from trainer.evaluate.pretrained import load_weights
from trainer.metrics.console import human_number
from trainer.model.decoder import Decoder
from trainer.model.distillation import PARTS, Lesson, SoftTargets, TopTargets, WholeTargets, top_logits
from trainer.model.init import copy_full_
from trainer.model.size import count_parameters
from trainer.parallel.fsdp import shard_model
from trainer.parallel.mesh import make_mesh
from trainer.parallel.precision import COMPUTE_DTYPE
from trainer.parallel.world import World
from trainer.train.config import DistillConfig
from trainer.train.datasets import Data


@dataclass(frozen=True)
class TeacherRecord:
    """Who taught a run, as its progress has it: a reference such as `@best` may mean another model later."""

    reference: str
    url: str
    sha256: str


class Teacher(Protocol):
    """Whatever can say something of a micro-batch."""

    def lesson(self, tokens_BT: Tensor, entries: Entries | None) -> Lesson:
        """Of these inputs. entries: the micro-batch's rows from the cache [B, T, K], fewer where rows only fill in.

        Collective where the teacher is sharded.
        """
        ...


def find_teacher(distill: DistillConfig, recorded: Mapping[str, str] | None) -> tuple[TeacherRecord, ModelIdentity]:
    """The teacher that the run has had (`recorded`, None for a new run), or the one that its settings name.

    UserError where it does not exist, or is not the one that it was.
    """
    before = TeacherRecord(**recorded) if recorded is not None else None
    kept = before if before is not None and distill.teacher in (before.reference, before.url) else None
    url = kept.url if kept is not None else distill.teacher
    try:
        found = identify_model(url)
    except UserError as error:
        raise UserError(
            f"distill.teacher: {error.found}",
            expected=error.expected,
            fix=f"{error.fix}; a run needs its teacher for as long as it trains: pin a checkpoint that serves as one",
        ) from error
    if distill.teacher_model not in (None, found.config):
        raise UserError(
            f"distill.teacher: {found.url} is another model than distill.teacher_model",
            expected="the model that the run was planned with",
            fix="remove distill.teacher_model, or name a teacher of that model",
        )
    wanted = {f"{before.url}, which has taught this run until now": before.sha256} if before is not None else {}
    if distill.teacher_sha256 is not None:
        wanted["distill.teacher_sha256"] = distill.teacher_sha256
    for what, sha256 in wanted.items():
        if sha256 != found.sha256:
            raise UserError(
                f"distill.teacher: {found.url} has sha256 {found.sha256[:12]}...",
                expected=f"{sha256[:12]}..., that of {what}",
                fix="name that teacher, or start a run of another name",
            )
    return TeacherRecord(kept.reference if kept is not None else distill.teacher, found.url, found.sha256), found


@dataclass(frozen=True)
class Teaching:
    """A teacher that was found and fits; nothing of it is in memory yet."""

    config: RunConfig
    """The run's settings with the teacher's own URL and hash: what config.yaml and config_sha256 are made of."""
    record: TeacherRecord
    description: ModelIdentity
    logits: list[LogitsReader] | None
    """Of each training source, with `distill.cache`."""

    @property
    def width(self) -> int:
        """Of the teacher's hidden states."""
        return self.description.config.width

    @property
    def introduction(self) -> str:
        """For the console."""
        distill, model = self.distill, self.description.config
        how = f"its {distill.top_k} largest logits" if distill.top_k is not None else "its whole distribution"
        return (
            f"teacher {self.record.url}: {model.family}, {human_number(count_parameters(model))} parameters, "
            f"{how}{' from the cache' if distill.cache else ''}; alpha {distill.alpha:g}, temperature "
            f"{distill.temperature:g}"
        )

    @property
    def distill(self) -> DistillConfig:
        """The run's."""
        assert self.config.distill is not None
        return self.config.distill


def find_teaching(config: RunConfig, run_store: Store, data: Data, ranks: Ranks) -> Teaching | None:
    """The teacher of task distill, None for other tasks. Collective. UserError where it is missing or does not fit."""
    distill = config.distill
    if config.task != "distill" or distill is None:
        return None
    # On one rank: a model folder is hashed whole.
    record, description = ranks.on_first(lambda: find_teacher(distill, _recorded(config, run_store)))
    pinned = distill.model_copy(
        update={"teacher": record.url, "teacher_sha256": record.sha256, "teacher_model": description.config}
    )
    config = config.model_copy(update={"distill": pinned})
    check_teacher(config, description, data.tokenizer)
    logits = [LogitsReader(each) for each in cache_folders(config, data, description)] if distill.cache else None
    return Teaching(config, record, description, logits)


def _recorded(config: RunConfig, run_store: Store) -> Mapping[str, str] | None:
    """Who has taught the checkpoint that the run will go on from; None for a new run."""
    resolved = resolve(run_store, config.resume) if config.resume != "none" else None
    for checkpoint in resolved.candidates if resolved is not None else ():
        try:
            progress = json.loads(checkpoint.store.read_bytes(PROGRESS))
        except (FileNotFoundError, ValueError):
            continue  # a damaged one: the load falls back to an older one, too
        teacher: Mapping[str, str] | None = progress.get("teacher")
        return teacher
    return None


def build_teacher(teaching: Teaching, world: World, document_end_id: int | None) -> Teacher:
    """The teacher as the run wants it. Collective where it is to be in memory."""
    config = teaching.config
    if teaching.logits is not None:
        return CachedTeacher(teaching.distill)
    mesh = make_mesh(
        config.parallel,
        world_size=world.world_size,
        local_world_size=world.local_world_size,
        device_type=world.device.type,
    )
    return LiveTeacher(config, teaching.description, mesh=mesh, device=world.device, document_end_id=document_end_id)


def check_teacher(config: RunConfig, teacher: ModelIdentity, tokenizer: TokenizerInfo | None) -> None:
    """UserError where the teacher cannot teach this student: other tokens, shorter context, fewer blocks.

    tokenizer: of the run's data, None where it is not known.
    """
    distill, model = config.distill, teacher.config
    assert distill is not None
    if model.vocab_size != config.model.vocab_size:
        raise UserError(
            f"distill.teacher: {teacher.url} has {model.vocab_size} tokens, model.vocab_size is "
            f"{config.model.vocab_size}",
            expected="one vocabulary: both distributions are over the same tokens",
            fix="train a teacher on this data, or set model.vocab_size and data.train to what the teacher reads",
        )
    if tokenizer is not None and not _reads(teacher, tokenizer):
        raise UserError(
            f"distill.teacher: {teacher.url} reads tokens of the tokenizer {teacher.tokenizer_sha256[:12]}..., the "
            f"data has those of {tokenizer.fingerprint[:12]}...",
            expected="one tokenizer, since the same id means another text in each",
            fix="prepare the data with the teacher's tokenizer.json, or name a teacher that was trained on it",
        )
    if model.context < config.sequence_length:
        raise UserError(
            f"distill.teacher: {teacher.url} accepts {model.context} tokens, sequence_length is "
            f"{config.sequence_length}",
            expected="a teacher that sees as much as the student",
            fix=f"set sequence_length: {model.context} or less, or name a teacher with a longer context",
        )
    too_high = [pair[1] for pair in (distill.hidden.layers if distill.hidden else ()) if pair[1] > model.layers]
    if too_high:
        raise UserError(
            f"distill.hidden.layers: block {too_high[0]} of {teacher.url}, which has {model.layers}",
            expected="blocks of the teacher counted from 1",
            fix="name one that it has",
        )


def _reads(teacher: ModelIdentity, tokenizer: TokenizerInfo) -> bool:
    """Whether a teacher reads these ids, as far as anybody knows."""
    if not teacher.tokenizer_sha256 or teacher.tokenizer_sha256 == tokenizer.fingerprint:
        return True
    return teacher.tokenizer_file is not None and tokenizer.gives_ids_of(teacher.tokenizer_file)


def cache_folders(config: RunConfig, data: Data, teacher: ModelIdentity) -> list[CacheFolder]:
    """Where the logits of each training source are, or will be."""
    distill = config.distill
    assert distill is not None
    assert distill.top_k is not None
    return [
        CacheFolder.beside(
            source,
            split,
            CacheKey(
                teacher_sha256=teacher.sha256,
                fingerprint=split.fingerprint,
                split=source.split or "train",
                sequence_length=config.sequence_length,
                top_k=distill.top_k,
                within_documents=config.data.document_mask,
            ),
            config.model.vocab_size,
        )
        for source, split in zip(config.data.train, data.train, strict=True)
    ]


class LiveTeacher:
    """A teacher in memory, sharded over `mesh` (None: whole), in the run's compute type."""

    def __init__(
        self,
        config: RunConfig,
        teacher: ModelIdentity,
        *,
        mesh: DeviceMesh | None,
        device: torch.device,
        document_end_id: int | None,
    ) -> None:
        """Every rank reads the weights, and keeps its share. With `document_end_id` it sees no more than the student
        does: soft targets that rest on what the student cannot see teach it noise.
        """
        assert config.distill is not None
        self._distill = config.distill
        settings = teacher.config.model_copy(update={"dropout": 0.0})
        with torch.device("meta"):
            self._model = Decoder(settings, document_end_id=document_end_id)
        self._model.requires_grad_(requires_grad=False).to(COMPUTE_DTYPE[config.precision])
        if mesh is not None:
            shard_model(self._model, mesh, config.parallel, config.precision)
        offload = mesh is not None and config.parallel.offload
        self._model.to_empty(device=torch.device("cpu") if offload else device)
        tensors = load_weights(teacher.url).tensors
        for name, parameter in self._model.named_parameters():
            copy_full_(parameter, tensors.pop(name))
        self._model.eval()
        if isinstance(self._model, FSDPModule):
            register_fsdp_forward_method(self._model, "hidden_states")

    def lesson(self, tokens_BT: Tensor, entries: Entries | None) -> Lesson:
        """See `Teacher`."""
        assert entries is None
        hidden = self._distill.hidden
        layers = tuple(theirs for _, theirs in hidden.layers) if hidden else ()
        targets, kept_NE = self.targets(tokens_BT, layers)
        return _lesson(self._distill, targets, kept_NE, tokens_BT.device)

    @torch.no_grad()
    def targets(self, tokens_BT: Tensor, layers: tuple[int, ...] = ()) -> tuple[SoftTargets, tuple[Tensor, ...]]:
        """What the teacher expects after each of the inputs, and what came out of these blocks [N, E]."""
        hidden_BTE, kept_BTE = self._model.hidden_states(tokens_BT, layers=layers)
        # FSDP leaves the root's parameters whole behind a forward pass that nothing goes back through.
        head_VE = self._model.head_weight[: self._model.config.vocab_size]
        hidden_NE = hidden_BTE.flatten(0, 1)
        top_k = self._distill.top_k
        targets = WholeTargets(hidden_NE, head_VE) if top_k is None else top_logits(hidden_NE, head_VE, top_k)
        return targets, tuple(kept.flatten(0, 1) for kept in kept_BTE)


class CachedTeacher:
    """A teacher whose logits were written before."""

    def __init__(self, distill: DistillConfig) -> None:
        self._distill = distill

    def lesson(self, tokens_BT: Tensor, entries: Entries | None) -> Lesson:
        """See `Teacher`."""
        assert entries is not None
        assert self._distill.top_k is not None
        if len(entries) < len(tokens_BT):  # the row of a rank that has run out of sequences, which counts for nothing
            entries = np.zeros((*tokens_BT.shape, self._distill.top_k), entries.dtype)
        ids = torch.from_numpy(entries["id"].astype(np.int32)).to(tokens_BT.device, non_blocking=True)
        logits = torch.from_numpy(entries["logit"].copy()).to(tokens_BT.device, non_blocking=True)
        return _lesson(self._distill, TopTargets(ids.flatten(0, 1), logits.flatten(0, 1)), (), tokens_BT.device)


def _lesson(
    distill: DistillConfig, targets: SoftTargets, hidden_NE: tuple[Tensor, ...], device: torch.device
) -> Lesson:
    hidden = distill.hidden
    return Lesson(
        targets=targets,
        alpha=distill.alpha,
        temperature=distill.temperature,
        hidden_weight=hidden.weight if hidden else 0.0,
        student_layers=tuple(own for own, _ in hidden.layers) if hidden else (),
        hidden=hidden_NE,
        parts=torch.zeros(len(PARTS), dtype=torch.float64, device=device),
    )
