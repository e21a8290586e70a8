"""RunConfig: one file describes a run. Composes the parts' own settings and holds the rules that span parts.

The same model is the YAML of `gpt-run`, the `run:` block of the chart's values and the source of the JSON schema.
Loading (files, presets, `--set`, complaints) is in `trainer.config_file`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from trainer.checkpoint.config import CheckpointConfig
from trainer.data.config import DataConfig
from trainer.elastic.config import ElasticConfig
from trainer.evaluate.config import EvaluateConfig
from trainer.metrics.config import CostConfig
from trainer.metrics.trackers.config import TrackerConfig
from trainer.model.config import LoraConfig, ModelConfig, ModelSettings, lora_problems
from trainer.parallel.config import ParallelConfig, Precision
from trainer.settings import Settings
from trainer.storage_errors import clean_url
from trainer.train.config import (
    AdamWConfig,
    BatchConfig,
    CosineConfig,
    DistillConfig,
    GuardConfig,
    LogConfig,
    OptimizerConfig,
    ScheduleConfig,
)

LENGTH_KEYS = ("steps", "epochs", "tokens")
# Text for the model to go on from, in which an address is nobody's credentials.
_PROSE = "evaluate.samples.prompts."
# Tasks that go on from a trained model.
ADAPTING_TASKS = ("finetune", "sft")


def _with_preset(model_schema: dict[str, Any]) -> None:
    """Let the schema allow `{preset: NAME, ...}`, which `trainer.config_file` replaces before validation."""
    preset = {
        "title": "preset",
        "description": "The model of a preset, changed by the keys of its family that stand beside `preset`.",
        "type": "object",
        "properties": {"preset": {"type": "string", "description": "Name of the preset whose model to take."}},
        "required": ["preset"],
    }
    model_schema["oneOf"].append(preset)


class RunConfig(Settings):
    """Everything that decides what a run computes and where it keeps it. Null means the default, for every key."""

    name: str = Field(pattern=r"^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$")
    """Name of the run: a DNS-1035 label of at most 40 characters; the folder below the store."""
    task: Literal["pretrain", "finetune", "sft", "distill", "evaluate"] = "pretrain"
    """`pretrain` trains; `finetune` goes on from `initial_weights` with text of a domain, the first source, and watches
    what the model forgets of the others; `sft` trains `initial_weights` on the answers of conversations; `distill`
    pretrains a student with what the teacher of `distill` says of the same text; `evaluate` computes the validation
    loss of the checkpoint named by `resume` and ends."""
    seed: int = Field(default=1, ge=0, lt=2**63)
    """Seeds initial weights, data order and dropout."""
    steps: int | None = Field(default=None, ge=1)
    """Length of the run in optimizer steps. Give one of `steps`, `epochs` and `tokens`."""
    epochs: float | None = Field(default=None, gt=0, le=1e6)
    """Length of the run in passes over the training set."""
    tokens: int | None = Field(default=None, ge=1)
    """Length of the run in training tokens, rounded up to a whole step."""
    model: ModelConfig = Field(json_schema_extra=_with_preset)
    """The decoder; `{preset: NAME}` takes the model of a preset, further keys change it."""
    sequence_length: int = Field(ge=2)
    """Tokens in one training sequence, at most `model.context`."""
    batch: BatchConfig = BatchConfig()
    """The global batch."""
    data: DataConfig
    """Training and validation sets."""
    precision: Precision = "fp32"
    """Arithmetic of forward and backward; weights, moments and reductions stay in fp32."""
    parallel: ParallelConfig = ParallelConfig()
    """Sharding, offload, recomputation, compilation."""
    optimizer: OptimizerConfig = AdamWConfig()
    """The optimizer, picked by `type`: adamw or muon."""
    schedule: ScheduleConfig = CosineConfig()
    """The learning-rate schedule, picked by `type`: cosine, linear or wsd."""
    checkpoint: CheckpointConfig = CheckpointConfig()
    """Where and how often to save."""
    resume: str = "latest"
    """Checkpoint to go on from: `latest`, `best`, `step:N`, a name, a full URL, or `none` to start from step 0."""
    initial_weights: str | None = None
    """Weights that a run starts with at step 0: a local Hugging Face folder, or a checkpoint as `STORE/RUN`,
    `STORE/RUN@best`, `STORE/RUN@step:N` or its URL. Null draws them from `seed`."""
    distill: DistillConfig | None = None
    """The teacher of task distill, and what the student learns from it."""
    lora: LoraConfig | None = None
    """Train low-rank adapters beside the frozen `initial_weights`, in the tasks finetune, sft and distill."""
    elastic: ElasticConfig = ElasticConfig()
    """The launcher."""
    guard: GuardConfig = GuardConfig()
    """Limits that end a run."""
    log: LogConfig = LogConfig()
    """Log lines."""
    evaluate: EvaluateConfig = EvaluateConfig()
    """Validation and samples of text during training."""
    cost: CostConfig = CostConfig()
    """What the run is charged with."""
    trackers: tuple[TrackerConfig, ...] = ()
    """Where curves, samples and histograms go besides the run's own lines; each `type` at most once."""

    @model_validator(mode="after")
    def _check_rules_across_parts(self) -> Self:
        problems = [
            *self._length_problems(),
            *self._batch_problems(),
            *self._data_problems(),
            *self._task_problems(),
            *self._distill_problems(),
            *self._lora_problems(),
            *self._tracker_problems(),
            *self._secret_problems(),
        ]
        if problems:
            raise ValueError("\n".join(problems))
        return self

    @property
    def live_teacher(self) -> ModelSettings | None:
        """Model of the teacher that runs beside the student; None where there is none, or nobody has said."""
        if self.task != "distill" or self.distill is None or self.distill.cache:
            return None
        return self.distill.teacher_model

    def _length_problems(self) -> list[str]:
        given = [key for key in LENGTH_KEYS if getattr(self, key) is not None]
        problems = []
        if len(given) != 1:
            found = " and ".join(f"`{key}`" for key in given) or "none of them"
            problems.append(f"steps, epochs, tokens: found {found}; give exactly one to say how long the run is")
        if self.sequence_length > self.model.context:
            problems.append(
                f"sequence_length: {self.sequence_length} is longer than model.context {self.model.context}; "
                "shorten the sequences or build the model with a larger context"
            )
        return problems

    def _batch_problems(self) -> list[str]:
        problems = []
        if self.batch.micro_sequences > self.batch.sequences:
            problems.append(
                f"batch.micro_sequences: {self.batch.micro_sequences} is more than batch.sequences "
                f"{self.batch.sequences}; a micro-batch is a part of the global batch"
            )
        if self.parallel.hybrid_ranks is not None and self.parallel.shard != "hybrid":
            problems.append(
                f"parallel.hybrid_ranks: only read when parallel.shard is hybrid, found {self.parallel.shard}; "
                "remove the key or set parallel.shard: hybrid"
            )
        return problems

    def _data_problems(self) -> list[str]:
        problems = []
        if self.evaluate.early_stopping.patience and not self.evaluate.every_steps:
            problems.append("evaluate.early_stopping.patience: needs evaluate.every_steps above 0")
        return problems

    def _task_problems(self) -> list[str]:
        problems = []
        if self.task == "evaluate" and self.resume == "none":
            problems.append(
                "resume: task evaluate needs a checkpoint; found `none`, give latest, best, step:N or a URL"
            )
        if self.task in ADAPTING_TASKS and self.initial_weights is None:
            problems.append(
                f"initial_weights: task {self.task} goes on from a trained model; found none, give a Hugging Face "
                "folder or a checkpoint (STORE/RUN, STORE/RUN@best), or set task: pretrain"
            )
        if self.task == "sft" and self.data.document_mask:
            problems.append(
                "data.document_mask: task sft keeps the samples of a sequence apart by itself; remove the key"
            )
        return problems

    def _distill_problems(self) -> list[str]:
        distill = self.distill
        if self.task == "distill" and distill is None:
            return ["distill: task distill needs a teacher; give distill.teacher, a model folder or STORE/RUN@best"]
        if distill is None:
            return []
        problems = []
        if self.task not in ("distill", "evaluate"):
            problems.append(f"distill: only read with task distill, found {self.task}; remove it or set task: distill")
        if distill.cache and distill.top_k is None:
            problems.append("distill.cache: what is written is the teacher's top_k logits; set distill.top_k as well")
        if distill.cache and distill.hidden is not None:
            problems.append("distill.cache: hidden states are not in the cache; remove distill.hidden or distill.cache")
        if distill.top_k is not None and distill.top_k > self.model.vocab_size:
            problems.append(
                f"distill.top_k: {distill.top_k} is more than model.vocab_size {self.model.vocab_size}; give fewer"
            )
        problems += [
            f"distill.hidden.layers.{number}: {pair[0]} is more than model.layers {self.model.layers}; blocks are "
            "counted from 1"
            for number, pair in enumerate(distill.hidden.layers if distill.hidden else ())
            if pair[0] > self.model.layers
        ]
        return problems

    def _lora_problems(self) -> list[str]:
        if self.lora is None:
            return []
        problems = lora_problems(self.model, self.lora)
        if self.task == "pretrain":
            problems.append("lora: task pretrain trains all weights; remove it or set task: finetune, sft or distill")
        elif self.initial_weights is None and self.task == "distill":
            problems.append("lora: adapters need weights to adapt; give initial_weights, or remove it")
        if self.optimizer.type == "muon":
            problems.append("lora: adapters are trained with optimizer.type adamw; found muon")
        if self.precision == "fp8":
            problems.append("lora: adapters are not computed in fp8; set precision: bf16")
        return problems

    def _tracker_problems(self) -> list[str]:
        types = [tracker.type for tracker in self.trackers]
        problems = [f"trackers: {name} is named twice; name each once" for name in set(types) if types.count(name) > 1]
        remote = "://" in self.checkpoint.store and not self.checkpoint.store.startswith(("file://", "local://"))
        problems += [
            f"trackers.{index}.folder: offline files would be lost with the machine, since checkpoint.store is not on "
            "it; name a folder on a volume that stays"
            for index, tracker in enumerate(self.trackers)
            if tracker.type == "wandb" and tracker.mode == "offline" and tracker.folder is None and remote
        ]
        return problems

    def _secret_problems(self) -> list[str]:
        """This file is copied into the store and into every checkpoint, so no URL in it may open a door."""
        urls = {key: text for key, text in _texts(self.model_dump()) if not key.startswith(_PROSE)}
        return [
            f"{key}: the URL holds a password, a signature or another query; write {clean_url(url)} and give "
            "credentials in the environment (AWS_*, GOOGLE_APPLICATION_CREDENTIALS, AZURE_STORAGE_*)"
            for key, url in urls.items()
            if clean_url(url) != url
        ]


def _texts(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """(key, text) of every text in plain data."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, dict | list | tuple):
        for name, below in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _texts(below, f"{key}.{name}" if key else str(name))


def total_steps(config: RunConfig, num_samples: int) -> int:
    """Optimizer steps of the whole run, for a training set of `num_samples` sequences."""
    if config.steps is not None:
        return config.steps
    if config.epochs is not None:
        # As it was written: 1.1 x 100 is more than 110 in binary, and another step would begin.
        return max(1, math.ceil(Fraction(str(config.epochs)) * num_samples / config.batch.sequences))
    assert config.tokens is not None
    return -(-config.tokens // (config.batch.sequences * config.sequence_length))
