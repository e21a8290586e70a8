"""Exports of checkpoints: what other programs compute from them, what is refused, and that half of one is none."""

from __future__ import annotations

import json
import shutil
import sys
from collections import namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
import transformers
from typer.testing import CliRunner

from tests.integration.evaluate.exports import write_run
from trainer.cli.main import app
from trainer.data.tokenizer import load_tokenizer
from trainer.errors import UserError
from trainer.evaluate import onnx_export
from trainer.evaluate.export import Done, ExportRequest, run_export
from trainer.evaluate.onnx_export import export_onnx
from trainer.model.decoder import Decoder

SIZES = {"vocab_size": 512, "context": 32, "layers": 2, "width": 48, "heads": 4}
MODELS: dict[str, dict[str, Any]] = {
    "gpt2": SIZES | {"family": "gpt2", "vocab_multiple": 100},
    "gpt2-untied": SIZES | {"family": "gpt2", "tied": False},
    "llama": SIZES | {"family": "llama", "kv_heads": 2},
    "llama-tied": SIZES | {"family": "llama", "tied": True},
    "neox": SIZES | {"family": "neox", "rope_fraction": 0.5},
    "neox-tied": SIZES | {"family": "neox", "rope_fraction": 0.5, "tied": True},
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that tests work in."""
    monkeypatch.chdir(tmp_path)
    transformers.utils.logging.disable_progress_bar()
    return tmp_path


@pytest.fixture
def gpt2(folder: Path, dataset: Path) -> Decoder:
    """A run of the smallest model in runs/small."""
    return write_run("runs", dataset, MODELS["gpt2"])


def export(output: str | None = "out", **options: Any) -> Done:
    return run_export(ExportRequest("runs/small", None if output is None else Path(output), **options))


def part() -> Path:
    """The file with the checkpoint's tensors."""
    return next(Path("runs/small/checkpoints").glob("*/*.distcp"))


@pytest.mark.parametrize("max_shard_bytes", [5_000_000_000, 40_000])
@pytest.mark.parametrize("name", MODELS)
def test_transformers_computes_the_same(name: str, max_shard_bytes: int, folder: Path, dataset: Path) -> None:
    model = write_run("runs", dataset, MODELS[name])
    export(max_shard_bytes=max_shard_bytes)
    assert Path("out/model.safetensors.index.json").exists() == (max_shard_bytes == 40_000)
    theirs = transformers.AutoModelForCausalLM.from_pretrained("out", dtype="auto").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained("out")
    ids = tokenizer("def main(argv):\n    return 0", return_tensors="pt")["input_ids"]
    assert ids[0].tolist() == load_tokenizer(dataset / "tokenizer.json").encode("def main(argv):\n    return 0").ids
    with torch.no_grad():
        difference = float((theirs(ids).logits - model(ids)).abs().max())
    print(f"{name}, files of {max_shard_bytes:,} bytes: {difference:.1e}")
    assert difference <= 1e-4


@pytest.mark.parametrize("name", ["gpt2", "llama", "neox"])
def test_onnxruntime_computes_the_same(name: str, folder: Path, dataset: Path) -> None:
    model = write_run("runs", dataset, MODELS[name])
    done = export(kind="onnx")
    assert done.exported.largest_difference is not None
    print(f"{name}: {done.exported.largest_difference:.1e}")
    assert done.exported.largest_difference <= 1e-4
    assert sorted(done.exported.files) == [
        "README.md",
        "model.onnx",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    # Neither the sizes that were traced nor those that were compared.
    ids = np.random.default_rng(0).integers(0, 512, (5, 21))
    (logits,) = onnxruntime.InferenceSession("out/model.onnx").run(None, {"input_ids": ids})
    with torch.no_grad():
        assert float((torch.from_numpy(logits) - model(torch.from_numpy(ids))).abs().max()) <= 1e-4
    # No path of the machine that made it.
    assert b"/trainer/" not in Path("out/model.onnx").read_bytes()


def test_an_onnx_graph_of_many_bytes_has_its_weights_beside_it(gpt2: Decoder) -> None:
    Path("onnx").mkdir()
    assert export_onnx(gpt2, Path("onnx"), external_bytes=10_000) <= 1e-4
    weight_bytes = sum(parameter.nbytes for parameter in gpt2.parameters())
    assert Path("onnx/model.onnx").stat().st_size < weight_bytes / 2 < Path("onnx/model.onnx.data").stat().st_size


def test_an_onnx_graph_that_computes_something_else_is_not_handed_out(
    gpt2: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_export, "_largest_difference", lambda *_: float("nan"))
    with pytest.raises(RuntimeError, match="by nan, above"):
        export(kind="onnx")
    assert sorted(path.name for path in Path().iterdir()) == ["runs"]


def test_a_graph_has_what_no_architecture_has(folder: Path, dataset: Path) -> None:
    """A GPT-2 with rotary positions, whose documents stay apart."""
    write_run("runs", dataset, MODELS["gpt2"] | {"positions": "rope"}, data={"document_mask": True})
    export(kind="onnx")
    session = onnxruntime.InferenceSession("out/model.onnx")
    ids = np.random.default_rng(0).integers(1, 512, (2, 12))
    # Token 0 ends a document.
    ids[:, 5] = 0
    ids[1, 6:] = ids[0, 6:]
    (logits,) = session.run(None, {"input_ids": ids})
    assert np.abs(logits[0, 6:] - logits[1, 6:]).max() < 1e-6 < np.abs(logits[0, :6] - logits[1, :6]).max()
    assert "token 0" in Path("out/README.md").read_text()


def test_the_types_of_weights(gpt2: Decoder) -> None:
    for dtype, theirs in (("bf16", torch.bfloat16), ("fp16", torch.float16)):
        export(dtype, dtype=dtype)
        assert transformers.AutoModelForCausalLM.from_pretrained(dtype, dtype="auto").dtype == theirs


def test_the_card_says_where_it_comes_from_and_keeps_secrets(
    folder: Path, dataset: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    copy = tmp_path_factory.mktemp("private") / "texts"
    shutil.copytree(dataset, copy)
    described = json.loads((copy / "dataset.json").read_text())
    from trainer.data.shards import DatasetInfo, write_dataset_json

    # pragma: allowlist nextline secret
    source = {"type": "jsonl", "path": ["https://me:geheim@host/a.jsonl?sig=geheim", "/home/me/b.jsonl"]}
    info = write_dataset_json(copy, DatasetInfo.model_validate(described | {"sources": [source]}))
    write_run("runs", copy, MODELS["gpt2"])
    export()
    card = Path("out/README.md").read_text()
    for said in (
        "small",
        info.fingerprint,
        "step-00000030-a0001",
        "9,600",
        "3.5000",
        "3.7500",
        "https://host/a.jsonl and b.jsonl",
        "AutoModelForCausalLM",
        "None is stated here",
    ):
        assert said in card, said
    for kept in ("geheim", "/home", "private"):
        assert kept not in card


def test_data_that_is_elsewhere_costs_the_tokenizer_alone(
    folder: Path, dataset: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(dataset, "data")
    write_run("runs", Path("data"), MODELS["gpt2"])
    shutil.rmtree("data")
    done = export()
    assert "no tokenizer is known" in caplog.text
    assert "tokenizer.json" not in done.exported.files
    assert "tokenizer.json" in export("given", tokenizer_file=str(dataset / "tokenizer.json")).exported.files


def refused(*parts: str, output: str | None = "out", **options: Any) -> None:
    with pytest.raises(UserError) as error:
        export(output, **options)
    for said in parts:
        assert said in str(error.value)
    assert not Path("out").exists()


def test_a_checkpoint_that_is_not_as_it_was_committed_is_refused(gpt2: Decoder) -> None:
    file = part()
    whole = file.read_bytes()
    config = file.parent / "config.yaml"
    written = config.read_text()
    config.write_text(written.replace("steps: 24", "steps: 25"))
    assert config.read_text() != written
    refused("config.yaml", "has sha256", "was committed")
    config.write_text(written)
    flipped = bytearray(whole)
    flipped[len(flipped) // 2] ^= 1
    file.write_bytes(flipped)
    refused(file.name, "has sha256", "was committed")
    refused(file.name, "has sha256", kind="onnx")
    file.write_bytes(whole[:-1])
    refused(file.name, "were committed")
    file.unlink()
    refused(file.name, "is missing")
    (file.parent / "COMMITTED.json").unlink()
    refused("no checkpoint")


def test_another_tokenizer_is_refused(gpt2: Decoder, dataset: Path) -> None:
    other = json.loads((dataset / "tokenizer.json").read_text())
    other["model"]["merges"] = other["model"]["merges"][:-1]
    Path("other.json").write_text(json.dumps(other))
    refused("was trained on the ids of", "--tokenizer FILE", tokenizer_file="other.json")


def test_a_model_that_the_architecture_cannot_express_is_refused_before_it_is_read(folder: Path, dataset: Path) -> None:
    write_run("runs", dataset, MODELS["gpt2"] | {"positions": "rope"})
    file = part()
    file.write_bytes(b"x" * file.stat().st_size)
    refused("GPT2LMHeadModel cannot express model.positions: rope")


def test_a_folder_with_other_files_is_kept(gpt2: Decoder) -> None:
    Path("own").mkdir()
    export("own")
    before = Path("own/exported.json").read_bytes()
    with pytest.raises(UserError, match="own exists and is not empty"):
        export("own")
    assert export("own", replace=True, dtype="fp16").exported.dtype == "fp16"
    assert Path("own/exported.json").read_bytes() != before
    Path("own/exported.json").unlink()
    with pytest.raises(UserError, match=r"has no exported\.json, so it is no export"):
        export("own", replace=True)
    Path("file").touch()
    with pytest.raises(UserError, match="file is a file"):
        export("file", replace=True)
    assert sorted(path.name for path in Path().iterdir()) == ["file", "own", "runs"]


def test_a_full_disk_is_known_before(gpt2: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """The only mock here: no disk of this machine is that full."""
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10, 10, 1000))
    refused("has 1,000 bytes free", "bytes for the export")


def test_what_no_export_can_be_made_of(gpt2: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    refused("neither --output nor --upload", output=None)
    refused("--format onnx --dtype bf16", kind="onnx", dtype="bf16")
    refused("hf://OWNER/NAME", upload="hf://small")
    refused("unknown kind of store", upload="nowhere://bucket/model")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    refused("onnxruntime", "pip install 'gpt-run[onnx]'", kind="onnx")
    unknown = CliRunner().invoke(app, ["checkpoints", "export", "runs/small", "--output", "out", "--format", "gguf"])
    assert unknown.exit_code == 2
    assert "'gguf' is not one of 'hf', 'onnx'" in unknown.output


def test_the_command_prints_what_its_help_promises(gpt2: Decoder) -> None:
    arguments = ["checkpoints", "export", "runs/small", "--output", "out", "--upload", "memory://exports/small"]
    result = json.loads(CliRunner().invoke(app, [*arguments, "--json"], catch_exceptions=False).stdout)
    assert result["checkpoint"].endswith("runs/small/checkpoints/step-00000030-a0001")
    assert (result["format"], result["output"], result["uploaded"]) == ("hf", "out", "memory://exports/small")
    assert result["bytes"] > sum(parameter.nbytes for parameter in gpt2.parameters()) - 100 * 48 * 4
