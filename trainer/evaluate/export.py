"""Export a checkpoint for other programs: a folder that is whole or not there, and its upload.

Called by `gpt-run checkpoints export`. Weights pass from the checkpoint to a Hugging Face folder one tensor at a time;
an ONNX graph needs the model in memory. `exported.json` in the folder says what it was made of, with the hash of every
file, which is what an upload and `--replace` go by.
"""

from __future__ import annotations

import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from trainer.checkpoint.layout import Checkpoint, json_bytes
from trainer.checkpoint.references import resolve_url
from trainer.checkpoint.tensors import open_model_tensors
from trainer.data.chat import TEMPLATE_FILE, load_template
from trainer.data.progress import progress
from trainer.data.tokenizer import load_tokenizer
from trainer.durable import replacing_folder, require_space
from trainer.errors import UserError
from trainer.evaluate.exported import RECORD, Exported, files_of
from trainer.evaluate.model_card import data_facts, model_card
from trainer.evaluate.onnx_export import export_onnx, require_onnx
from trainer.evaluate.pretrained import Description, adapters_of, check_tokenizer, describe_checkpoint
from trainer.evaluate.upload import check_target, upload
from trainer.model.additions import PlainTensors
from trainer.model.config import ModelConfig
from trainer.model.decoder import Decoder
from trainer.model.hf import MAX_SHARD_BYTES, export_hf, exported_bytes
from trainer.model.hf_config import check_expressible
from trainer.model.hf_tokenizer import write_tokenizer
from trainer.parallel.config import Precision
from trainer.parallel.precision import COMPUTE_DTYPE
from trainer.paths import require_local

logger = logging.getLogger(__name__)

Kind = Literal["hf", "onnx"]


@dataclass(frozen=True)
class ExportRequest:
    """What to export and where to."""

    checkpoint: str
    """`<store>/<run>`, its `@best`, or a checkpoint's URL."""
    output: Path | None = None
    """Folder to create; None where only the upload is wanted."""
    upload: str | None = None
    """Folder in a store, or hf://OWNER/NAME."""
    kind: Kind = "hf"
    dtype: Precision = "fp32"
    tokenizer_file: str | None = None
    max_shard_bytes: int = MAX_SHARD_BYTES
    replace: bool = False


@dataclass(frozen=True)
class Done:
    """What an export came to."""

    checkpoint: str
    """URL of the checkpoint that was taken."""
    exported: Exported
    uploaded: str | None
    """URL, of the Hub that of the commit."""


def run_export(request: ExportRequest) -> Done:
    """Export and upload. UserError for input that is wrong, before anything is read wherever that can be known."""
    if request.output is None:
        if request.upload is None:
            raise UserError(
                "neither --output nor --upload is given",
                expected="a folder to create, a place to upload to, or both",
                fix="add --output FOLDER or --upload URL",
            )
        with tempfile.TemporaryDirectory(prefix="gpt-run-export-") as folder:
            return _run(request, Path(folder, "model"))
    require_local(request.output, "--output", fix="name the store with --upload URL")
    return _run(request, request.output.resolve())


def _run(request: ExportRequest, output: Path) -> Done:
    if request.kind == "onnx":
        _check_onnx(request.dtype)
    _check_output(output, replace=request.replace)
    if request.upload is not None:
        check_target(request.upload)
    checkpoint = resolve_url(request.checkpoint)
    found = describe_checkpoint(checkpoint, tokenizer_file=request.tokenizer_file)
    if request.kind == "hf":
        check_expressible(found.config)
    _check_tokenizer(checkpoint, found)
    exported = export_checkpoint(checkpoint, found, output, request)
    uploaded = None
    if request.upload is not None:
        uploaded = upload(output, exported, request.upload, replace=request.replace)
    return Done(checkpoint.url, exported, uploaded)


def export_checkpoint(checkpoint: Checkpoint, found: Description, output: Path, request: ExportRequest) -> Exported:
    """Write `output`, whole or not at all; what it says of itself."""
    dtype = COMPUTE_DTYPE[request.dtype]
    num_bytes = exported_bytes(found.config, dtype)
    require_space(output.parent, num_bytes, purpose="the export", fix="make room, or name an --output on another disk")
    difference = None
    with replacing_folder(output) as folder:
        if request.kind == "hf":
            _write_hf(checkpoint, found, folder, request, dtype, num_bytes)
        else:
            difference = _write_onnx(checkpoint, found, folder)
        sets = data_facts(found.run, checkpoint.committed)
        card = model_card(request.kind, request.dtype, found, checkpoint.committed, sets)
        (folder / "README.md").write_text(card, encoding="utf-8")
        exported = Exported(
            kind=request.kind,
            dtype=request.dtype,
            run=checkpoint.committed.run,
            checkpoint=checkpoint.name,
            config_sha256=checkpoint.committed.config_sha256,
            largest_difference=difference,
            files=files_of(folder),
        )
        (folder / RECORD).write_bytes(json_bytes(exported.model_dump(mode="json")))
    return exported


def _write_hf(
    checkpoint: Checkpoint, found: Description, folder: Path, request: ExportRequest, dtype: torch.dtype, num_bytes: int
) -> None:
    with open_model_tensors(checkpoint) as tensors:
        with progress("verify", tensors.file_bytes) as advance:
            tensors.verify(advance)
        with progress("write", num_bytes) as advance:
            export_hf(
                PlainTensors(tensors, adapters_of(found.run)),
                found.config,
                folder,
                dtype=dtype,
                tokenizer_file=found.tokenizer_file,
                eos_id=found.eos_id,
                end_of_turn_id=_end_of_turn_id(found.tokenizer_file),
                max_shard_bytes=request.max_shard_bytes,
                advance=advance,
            )


def _end_of_turn_id(tokenizer_file: Path | None) -> int | None:
    """Of the chat template beside the tokenizer; None where there is none."""
    if tokenizer_file is None or not tokenizer_file.with_name(TEMPLATE_FILE).is_file():
        return None
    tokenizer = load_tokenizer(tokenizer_file)
    template = load_template(None, tokenizer, tokenizer_folder=str(tokenizer_file.parent))
    return template.end_of_turn_id(tokenizer)


def _write_onnx(checkpoint: Checkpoint, found: Description, folder: Path) -> float:
    if found.tokenizer_file is not None:
        write_tokenizer(found.tokenizer_file, found.eos_id, found.config, folder)
    with open_model_tensors(checkpoint) as tensors:
        with progress("verify", tensors.file_bytes) as advance:
            tensors.verify(advance)
        plain = dict(PlainTensors(tensors, adapters_of(found.run)))
        model = _decoder(found.config, plain, found.document_end_id)
    return export_onnx(model, folder)


def _decoder(config: ModelConfig, tensors: dict[str, torch.Tensor], document_end_id: int | None) -> Decoder:
    with torch.device("meta"):
        model = Decoder(config, document_end_id=document_end_id)
    model.to_empty(device="cpu")
    model.load_state_dict(tensors, assign=True)
    return model.float()


def _check_onnx(dtype: Precision) -> None:
    require_onnx()
    if dtype != "fp32":
        raise UserError(
            f"--format onnx --dtype {dtype}",
            expected="fp32: the graph is compared with the decoder by onnxruntime, whose CPU kernels are fp32",
            fix="leave --dtype out, and convert the graph with onnxruntime's own tools",
        )


def _check_output(output: Path, *, replace: bool) -> None:
    if not output.exists():
        return
    if not output.is_dir():
        raise UserError(f"{output} is a file", expected="a folder to create", fix="name another --output")
    if not any(output.iterdir()):
        return
    if not replace:
        raise UserError(
            f"{output} exists and is not empty",
            expected="a new or an empty folder",
            fix="name another --output, or add --replace to take the place of an older export",
        )
    if not (output / RECORD).is_file():
        raise UserError(
            f"{output} has no {RECORD}, so it is no export",
            expected="a folder that this command wrote: --replace deletes what is in it",
            fix="name another --output, or remove the folder yourself",
        )


def _check_tokenizer(checkpoint: Checkpoint, found: Description) -> None:
    if found.tokenizer_file is not None:
        check_tokenizer(checkpoint, load_tokenizer(found.tokenizer_file))
        return
    logger.warning(
        "%s: no tokenizer is known, since the training data is not here or has none: the export will be without; "
        "--tokenizer FILE adds it",
        checkpoint.url,
    )
