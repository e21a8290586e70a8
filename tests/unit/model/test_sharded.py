"""Two FSDP2 ranks against one process: initial values, loss, gradients, and rotary tables under mixed precision."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from trainer.model.decoder import Decoder
from trainer.model.init import initialise

SCRIPT = Path(__file__).with_name("sharded_ranks.py")
FAMILIES = ["gpt2", "llama", "neox"]


@pytest.fixture(scope="module")
def ranks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("sharded_ranks", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("ranks")
    processes = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(rank), str(folder)],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        for rank in range(2)
    ]
    outputs = [process.communicate(timeout=120)[0].decode() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(outputs)
    loaded: dict[str, Any] = torch.load(folder / "results.pt")
    return loaded


@pytest.fixture
def single(ranks: ModuleType, family: str) -> Decoder:
    model = Decoder(ranks.CONFIGS[family])
    initialise(model, ranks.SEED)
    return model


@pytest.mark.parametrize("family", FAMILIES)
def test_initial_values_are_the_same_bits(single: Decoder, results: dict[str, Any], family: str) -> None:
    parameters = dict(single.named_parameters())
    assert parameters.keys() == results[family]["initial"].keys()
    for name, parameter in parameters.items():
        assert torch.equal(parameter, results[family]["initial"][name]), name


@pytest.mark.parametrize("family", FAMILIES)
def test_loss_and_accumulated_gradients_agree(
    single: Decoder, ranks: ModuleType, results: dict[str, Any], family: str
) -> None:
    for _ in range(2):
        loss = single(ranks.token_batch(), ranks.token_batch())
        loss.backward()
    assert loss.item() == pytest.approx(results[family]["loss"], rel=1e-6)
    for name, parameter in single.named_parameters():
        torch.testing.assert_close(results[family]["gradients"][name], parameter.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_bf16_stays_near_fp32(results: dict[str, Any], family: str) -> None:
    assert results[family]["half"] == pytest.approx(results[family]["loss"], rel=5e-3)
    assert results[family]["half"] != results[family]["loss"]


def test_a_rotary_table_cast_to_bf16_is_refused(results: dict[str, Any]) -> None:
    assert "cast_forward_inputs=False" in results["casting"]
