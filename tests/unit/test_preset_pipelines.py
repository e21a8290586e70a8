"""Each reference run has a pipeline that makes what it reads."""

from __future__ import annotations

from importlib import resources
from pathlib import PurePosixPath

import pytest

from trainer.config_file import load_run_config
from trainer.data.prepare.pipeline import ChatPipeline, Pipeline, TokenPipeline, load_pipeline
from trainer.data.tokenizers.config import BpeTokenizer, FileTokenizer

# Run -> pipeline; what the tokenizer of a pipeline has ids for.
RUNS = {
    "gpt2-large": "gpt2-large",
    "gpt2-124m": "fineweb-edu-10b",
    "llama-1.36b": "slimpajama-6b-llama",
    "gpt2-1.36b": "slimpajama-6b-gpt2",
    "gpt-1b-h100": "gpt-1b",
    "neox-1.4b": "neox-npz",
    "tiny-gpt2": "python-library",
}
# A run that adapts the model of another -> the pipeline of what it learns.
ADAPTING = {"tiny-finetune": "python-docstrings", "tiny-sft": "python-questions"}
GPT2_IDS = 50_257


@pytest.mark.parametrize(("run", "name"), RUNS.items(), ids=list(RUNS))
def test_a_run_reads_what_its_pipeline_makes(run: str, name: str) -> None:
    config, pipeline = load_run_config(run), load_pipeline(name)
    made = pipeline.sources[0].path if isinstance(pipeline, TokenPipeline) else pipeline.output
    assert [source.path for source in config.data.train] == [made]
    if isinstance(pipeline.tokenizer, BpeTokenizer):
        assert pipeline.tokenizer.size == config.model.vocab_size
    else:
        assert pipeline.tokenizer_name == "openai-community/gpt2"
        assert config.model.vocab_size == GPT2_IDS


def test_the_two_tokenizers_of_slimpajama_share_the_cleaned_text() -> None:
    llama, gpt2 = load_pipeline("slimpajama-6b-llama"), load_pipeline("slimpajama-6b-gpt2")
    assert isinstance(llama, Pipeline)
    assert isinstance(gpt2, Pipeline)
    shared = set(Pipeline.model_fields) - {"name", "output", "tokenizer"}
    assert {key: getattr(llama, key) for key in shared} == {key: getattr(gpt2, key) for key in shared}
    assert llama.cleaned is not None
    assert llama.output != gpt2.output


@pytest.mark.parametrize(("run", "name"), ADAPTING.items(), ids=list(ADAPTING))
def test_an_adapting_run_reads_tokens_of_its_model(run: str, name: str) -> None:
    config, pipeline = load_run_config(run), load_pipeline(name)
    assert config.data.train[0].path == pipeline.output
    base = load_run_config(PurePosixPath(config.initial_weights or "").name)
    assert config.model == base.model
    assert isinstance(pipeline.tokenizer, FileTokenizer)
    assert [pipeline.tokenizer.path] == [source.path for source in base.data.train]
    if isinstance(pipeline, ChatPipeline):
        assert pipeline.chat.sequence_length == config.sequence_length


def test_no_shipped_pipeline_lacks_a_run() -> None:
    shipped = (resources.files("trainer") / "presets" / "data").iterdir()
    assert {path.name.removesuffix(".yaml") for path in shipped} == {*RUNS.values(), *ADAPTING.values()}
