"""Options of `gpt-run train` that say where and with how many it runs."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from trainer.cli.main import app
from trainer.cli.train import parse_address, parse_range, parse_workers
from trainer.errors import UserError


def test_numbers_of_machines() -> None:
    assert parse_range("3", "--nnodes", "machines") == (3, 3)
    assert parse_range("1:4", "--nnodes", "machines") == (1, 4)
    for wrong in ("", "0", "4:1", "1:", ":2", "1:2:3", "a:b"):
        with pytest.raises(UserError, match="--nnodes"):
            parse_range(wrong, "--nnodes", "machines")


def test_numbers_of_workers() -> None:
    assert parse_workers("8") == 8
    assert parse_workers("auto") >= 1
    for wrong in ("0", "-1", "many", "1.5"):
        with pytest.raises(UserError, match="--nproc"):
            parse_workers(wrong)


def test_addresses() -> None:
    assert parse_address("host:29400") == ("host", 29400)
    assert parse_address("[::1]:29400") == ("::1", 29400)
    for wrong in ("host", "host:", ":29400", "host:port", "host:0", "host:70000", "host:²"):
        with pytest.raises(UserError, match="--coordinator"):
            parse_address(wrong)


@pytest.mark.parametrize(
    ("variable", "value", "option"),
    [("PET_NNODES", "3:2", "--nnodes 3:2"), ("PET_NPROC_PER_NODE", "0", "--nproc 0")],
)
def test_variables_of_the_training_operator(variable: str, value: str, option: str) -> None:
    with pytest.raises(UserError, match=option):
        CliRunner().invoke(app, ["train", "tiny-gpt2"], env={variable: value}, catch_exceptions=False)


def test_the_operators_address_is_taken() -> None:
    env = {"PET_NNODES": "1:2", "PET_RDZV_ENDPOINT": "nonsense"}
    with pytest.raises(UserError, match="--coordinator nonsense"):
        CliRunner().invoke(app, ["train", "tiny-gpt2"], env=env, catch_exceptions=False)


def test_a_folder_of_compiled_kernels_that_cannot_be_made() -> None:
    env = {"TORCHINDUCTOR_CACHE_DIR": "/proc/nowhere/kernels"}
    with pytest.raises(UserError, match="TORCHINDUCTOR_CACHE_DIR=/proc/nowhere/kernels"):
        CliRunner().invoke(app, ["train", "tiny-gpt2"], env=env, catch_exceptions=False)
