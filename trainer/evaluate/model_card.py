"""README.md of an export: what the model is, what it was trained on and how it is loaded.

Pure but for `data_facts`, which reads the data sets' dataset.json where they can be reached. The same checkpoint gives
the same card: no clock. A card is for others to read, so folders of this machine are named by their last part only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainer.checkpoint.layout import Committed
from trainer.data.config import DataConfig
from trainer.data.remote import locate
from trainer.data.shards import DATASET_FILE, DatasetInfo, load_dataset_json
from trainer.errors import UserError
from trainer.evaluate.pretrained import Description
from trainer.model.hf_config import ARCHITECTURES
from trainer.model.size import count_parameters
from trainer.storage_errors import clean_url, without_secrets

_LOAD = {
    "hf": """from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained(FOLDER, dtype="auto")
tokenizer = AutoTokenizer.from_pretrained(FOLDER)""",
    "onnx": """import numpy
import onnxruntime
from tokenizers import Tokenizer

session = onnxruntime.InferenceSession(f"{FOLDER}/model.onnx")
ids = Tokenizer.from_file(f"{FOLDER}/tokenizer.json").encode("def main(").ids
(logits,) = session.run(None, {"input_ids": numpy.array([ids])})""",
}


def model_card(kind: str, dtype: str, found: Description, committed: Committed, sets: list[str]) -> str:
    """The card; `sets` has a line for each of the training sets, of `data_facts`."""
    config, run = found.config, found.run
    sequences = run["batch"]["sequences"]
    loss = "not evaluated at this step" if committed.validation_loss is None else f"{committed.validation_loss:.4f}"
    rows = {
        "architecture": ARCHITECTURES[config.family] if kind == "hf" else f"{config.family}, as one ONNX graph",
        "parameters": f"{count_parameters(config):,}",
        "context": f"{config.context:,} tokens",
        "vocabulary": f"{config.vocab_size:,} tokens",
        "type of the weights": dtype,
        "run": f"{committed.run}, checkpoint {committed.name}",
        "steps": f"{committed.step:,} of {sequences:,} sequences of {run['sequence_length']:,} tokens",
        "tokens trained on": f"{committed.tokens:,} ({committed.epoch:.2f} epochs)",
        "loss of the last batch": f"{committed.loss:.4f} nats per token",
        "validation loss": loss,
        "sha256 of the run's configuration": f"`{committed.config_sha256}`",
        "sha256 of the model's configuration": f"`{committed.model_sha256}`",
        "fingerprint of the tokenizer": f"`{committed.tokenizer_sha256}`" if committed.tokenizer_sha256 else "unknown",
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    library = "library_name: transformers\n" if kind == "hf" else ""
    data = "\n".join(f"- {line}" for line in sets)
    return without_secrets(
        f"---\n{library}pipeline_tag: text-generation\ntags:\n  - {config.family}\n  - gpt-run\n---\n\n"
        f"# {committed.run}\n\nA {config.family} language model, pretrained with gpt-run.\n\n"
        f"| | |\n| --- | --- |\n{table}\n\n## Data\n\n{data}\n\n{_documents(found)}"
        f"## Loading\n\n```python\n{_LOAD[kind]}\n```\n\n"
        "## Licence\n\nNone is stated here: whoever publishes this model has to choose one that the licences of the "
        "data allow, and add it as `license:` to the head of this file.\n"
    )


def data_facts(run: Mapping[str, Any], committed: Committed) -> list[str]:
    """A line for each training set: name, fingerprint, tokens and sources where its dataset.json can be read."""
    data = DataConfig.model_validate(run["data"])
    lines = []
    for source in data.train:
        share = f", weight {source.weight:g}" if len(data.train) > 1 else ""
        info = _read(source.path)
        lines.append(f"{_public(source.path)}{share}" if info is None else f"{_described(info)}{share}")
    return [*lines, f"all of it, in this order and with these weights: sha256 `{committed.dataset_sha256}`"]


def _documents(found: Description) -> str:
    if found.document_end_id is None:
        return ""
    return (
        f"In training no position looked back across the end of a document (token {found.document_end_id}): give it "
        "one document per sequence.\n\n"
    )


def _read(path: str) -> DatasetInfo | None:
    """The set's description; None for token files, which have none, and for a set that is elsewhere."""
    try:
        where = locate(path).join(DATASET_FILE)
        return load_dataset_json(where.read(), where.url)
    except (UserError, OSError):
        return None


def _described(info: DatasetInfo) -> str:
    tokens = info.splits["train"].tokens if "train" in info.splits else 0
    sources = "; ".join(_source(record) for record in info.sources) or "not named"
    return f"{info.name}, fingerprint `{info.fingerprint}`, {tokens:,} tokens, from: {sources}"


def _source(record: Mapping[str, Any]) -> str:
    settings = ", ".join(f"{key} {_public(value)}" for key, value in record.items() if key != "type")
    return f"{record.get('type', 'text')}{f' ({settings})' if settings else ''}"


def _public(value: Any) -> str:
    """A setting as it may be published: no user or signature in a URL, no folders of the machine."""
    if isinstance(value, list | tuple):
        return " and ".join(_public(item) for item in value)
    text = str(value)
    if "://" in text:
        return clean_url(text)
    return text.rstrip("/").rsplit("/", 1)[-1] if text.startswith(("/", "~", ".")) else text
