"""A trained model for use: from a checkpoint of ours or a Hugging Face folder, whole, on one device.

Called by generation, export and evaluation. The tokenizer comes from the model folder, or from beside the data the run
was trained on, which its config names.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter
from tokenizers import Tokenizer
from torch import nn

from trainer.checkpoint.layout import CONFIG, Checkpoint, CorruptCheckpoint
from trainer.checkpoint.load import check_sizes, local_files
from trainer.checkpoint.references import resolve_url
from trainer.checkpoint.tensors import load_model_tensors
from trainer.data.chat import TEMPLATE_FILE
from trainer.data.config import DataConfig
from trainer.data.dataset import open_training
from trainer.data.remote import locate
from trainer.data.tokenizer import CONFIG_FILE, end_of_text_id, load_tokenizer, tokenizer_fingerprint
from trainer.errors import UserError
from trainer.model.additions import PlainTensors
from trainer.model.config import LoraConfig, ModelConfig
from trainer.model.decoder import Decoder
from trainer.model.hf import import_hf
from trainer.yaml_dialect import parse_yaml


@dataclass(frozen=True)
class Weights:
    """Weights on the CPU and what belongs to them."""

    url: str
    config: ModelConfig
    tensors: dict[str, torch.Tensor]
    tokenizer_file: Path | None
    eos_id: int | None
    checkpoint: Checkpoint | None = None
    """None for a Hugging Face folder."""
    run: Mapping[str, Any] | None = None
    """The effective run file of the checkpoint."""


@dataclass(frozen=True)
class Description:
    """What a checkpoint says of itself, and what belongs to it, without its weights."""

    config: ModelConfig
    tokenizer_file: Path | None
    eos_id: int | None
    run: Mapping[str, Any]
    """The effective run file."""

    @property
    def document_end_id(self) -> int | None:
        """What ends a document for a model that was trained within documents only."""
        return self.eos_id if self.run["data"]["document_mask"] else None


@dataclass(frozen=True)
class Pretrained:
    """A model ready to run."""

    url: str
    config: ModelConfig
    model: Decoder
    tokenizer: Tokenizer | None
    eos_id: int | None
    checkpoint: Checkpoint | None = None
    """None for a Hugging Face folder."""
    run: Mapping[str, Any] | None = None
    """The effective run file of the checkpoint."""


def load_pretrained(reference: str, *, tokenizer_file: str | None = None) -> Pretrained:
    """Load the model at `reference` (see `load_weights`) onto the GPU if there is one, to generate with it."""
    pretrained = build_pretrained(load_weights(reference, tokenizer_file=tokenizer_file))
    if not torch.cuda.is_available():
        lay_out_for_single_rows(pretrained.model)
    return pretrained


def lay_out_for_single_rows(model: Decoder) -> None:
    """Keep the matrices of products column by column in memory: a CPU multiplies single rows with them faster so.

    Shapes and values stay as they are (docs/decisions/generation.md).
    """
    weights = [module.weight for module in model.modules() if isinstance(module, nn.Linear)]
    for weight in [*weights, model.head_weight]:
        weight.data = weight.data.t().contiguous().t()


def build_pretrained(weights: Weights, *, dtype: torch.dtype = torch.float32) -> Pretrained:
    """The model of these weights. One that was trained within documents only sees no further here either."""
    within_documents = weights.run is not None and weights.run["data"]["document_mask"]
    with torch.device("meta"):
        model = Decoder(weights.config, document_end_id=weights.eos_id if within_documents else None)
    model.to_empty(device="cpu")
    model.load_state_dict(weights.tensors, assign=True)
    model.to("cuda" if torch.cuda.is_available() else "cpu", dtype).eval()
    tokenizer = load_tokenizer(weights.tokenizer_file) if weights.tokenizer_file else None
    return Pretrained(weights.url, weights.config, model, tokenizer, weights.eos_id, weights.checkpoint, weights.run)


def load_weights(reference: str, *, tokenizer_file: str | None = None) -> Weights:
    """Weights at `reference`: a folder with config.json (Hugging Face), `<store>/<run>`, or a checkpoint's URL.

    `tokenizer_file` is a path or URL; by default the tokenizer is the model folder's own or the training data's.
    """
    folder = Path(reference)
    if is_hugging_face(folder):
        given = _given_tokenizer(tokenizer_file) if tokenizer_file else None
        config, tensors = import_hf(folder)
        own = folder / "tokenizer.json"
        file = given or (own if own.is_file() else None)
        return Weights(reference, config, tensors, file, _eos_id(file))
    return checkpoint_weights(resolve_url(reference), tokenizer_file=tokenizer_file)


def checkpoint_weights(checkpoint: Checkpoint, *, tokenizer_file: str | None = None) -> Weights:
    """Weights of a checkpoint of ours; see `load_weights`."""
    found = describe_checkpoint(checkpoint, tokenizer_file=tokenizer_file)
    tensors = dict(PlainTensors(load_model_tensors(checkpoint), adapters_of(found.run)))
    return Weights(checkpoint.url, found.config, tensors, found.tokenizer_file, found.eos_id, checkpoint, found.run)


def describe_checkpoint(checkpoint: Checkpoint, *, tokenizer_file: str | None = None) -> Description:
    """Model, tokenizer and run of a checkpoint; `tokenizer_file` as for `load_weights`."""
    given = _given_tokenizer(tokenizer_file) if tokenizer_file else None
    raw, config = checkpoint_settings(checkpoint)
    file, eos_id = (given, None) if given else training_tokenizer(raw)
    if eos_id is None:
        eos_id = _eos_id(file)
    return Description(config, file, eos_id, raw)


def checkpoint_settings(checkpoint: Checkpoint) -> tuple[dict[str, Any], ModelConfig]:
    """The run file of a checkpoint, as it was committed, and its model.

    UserError if the file, or the size of any other, is not what was committed.
    """
    try:
        check_sizes(checkpoint)
        with local_files(checkpoint) as files:
            text = files.read(CONFIG).decode()
    except CorruptCheckpoint as error:
        raise error.as_user_error() from error
    raw = parse_yaml(text, source=checkpoint.store.url_of(CONFIG))
    assert isinstance(raw, dict)
    return raw, TypeAdapter(ModelConfig).validate_python(raw["model"])


def adapters_of(run: Mapping[str, Any]) -> LoraConfig | None:
    """The low-rank adapters that a run trained, which have to be merged before its weights are a plain model's."""
    return LoraConfig.model_validate(run["lora"]) if run.get("lora") else None


def is_hugging_face(folder: Path) -> bool:
    """Whether a folder is a model folder, and no run or checkpoint."""
    return (folder / "config.json").is_file()


def check_tokenizer(checkpoint: Checkpoint, tokenizer: Tokenizer) -> None:
    """UserError for a tokenizer that is not the one behind the data that a checkpoint was trained on."""
    trained, given = checkpoint.committed.tokenizer_sha256, tokenizer_fingerprint(tokenizer)
    # Token files of other programs do not say what made them.
    if trained and trained != given:
        raise UserError(
            f"the tokenizer has the fingerprint {given[:12]}..., {checkpoint.url} was trained on the ids of "
            f"{trained[:12]}...",
            expected="the tokenizer that the training data was made with",
            fix="name it with --tokenizer FILE",
        )


def _given_tokenizer(path: str) -> Path:
    found = locate(path).info()
    if found is None or found["type"] != "file":
        raise UserError(f"--tokenizer {path}: no such file", expected="a tokenizer.json", fix="check the path")
    return _local_file(path)


def training_tokenizer(raw: dict[str, Any]) -> tuple[Path | None, int | None]:
    """The tokenizer beside the first training set, and its EOS id, as far as that set is here and has them."""
    data = DataConfig.model_validate(raw["data"])
    first = data.model_copy(update={"train": data.train[:1]})
    try:
        (split,) = open_training(first, raw["sequence_length"])
    except UserError:
        return None, None  # the data is elsewhere: the caller may name a tokenizer
    if split.tokenizer is None:
        return None, None
    file = _local_file(split.tokenizer.path) if split.tokenizer.path is not None else None
    return file, split.tokenizer.eos_id


def _local_file(path: str) -> Path:
    """The file itself, or a copy of a remote one and its chat template that lives as long as this process."""
    location = locate(path)
    if location.local is not None:
        return location.local
    folder = tempfile.mkdtemp(prefix="gpt-run-tokenizer-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    copy = Path(folder, "tokenizer.json")
    location.download(copy)
    for name in (TEMPLATE_FILE, CONFIG_FILE):
        beside = locate(path.rpartition("/")[0]).join(name)
        if beside.info() is not None:
            beside.download(copy.with_name(name))
    return copy


def _eos_id(tokenizer_file: Path | None) -> int | None:
    return end_of_text_id(load_tokenizer(tokenizer_file)) if tokenizer_file else None
