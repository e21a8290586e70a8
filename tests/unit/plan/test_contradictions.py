"""What the authors of the reference runs said, and what cannot be true of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from trainer.config_file import load_run_config
from trainer.errors import UserError
from trainer.plan.claims import claim_names, read_claims
from trainer.plan.contradictions import find_contradictions
from trainer.plan.hardware import find_accelerator, make_cluster
from trainer.plan.plan import Assumptions, Plan, make_plan

MACHINES = {
    "gpt2-large": ("cpu", 1),
    "gpt2-124m": ("a100", 4),
    "llama-1.36b": ("h20", 4),
    "gpt2-1.36b": ("h20", 4),
    "gpt-1b-h100": ("h100", 8),
    "neox-1.4b": ("a100", 2),
    "neox-1.4b-8gpu": ("a100", 8),
    "neox-1.4b-test": ("a100", 1),
}
# By run: every claim that is wrong, with a word of what is true.
WRONG = {
    "gpt2-large": {"parameters": "774,030,080", "micro_steps_per_second": "peak"},
    "gpt2-124m": {"days and tokens_per_second_per_gpu": "64.3 days", "lost_seconds": "250 steps"},
    "llama-1.36b": {
        "parameters": "1,294,159,104",
        "tokens_per_second": "MFU of 74%",
        "tokens_per_second and mfu": "23.6k",
        "hours and tokens_per_second": "27.8 to 33.3 hours",
        "memory_gb": "44.9 GB",
        "final_loss": "2.7",
        "optimal_tokens": "25.4B",
    },
    "gpt2-1.36b": {
        "parameters": "1,405,338,496",
        "heads": "19 heads of 128",
        "tokens_per_second": "MFU of 80%",
        "tokens_per_second and mfu": "21.9k",
        "hours and tokens_per_second": "27.8 to 33.3 hours",
        "memory_gb": "40.9 GB",
        "final_loss": "2.69",
        "optimal_tokens": "27.5B",
    },
    "gpt-1b-h100": {
        "parameters": "759,905,280",
        "tokens": "105B",
        "dataset_gb": "103 GB",
        "final_loss": "2.4",
    },
    "neox-1.4b": {"parameters": "1,414,455,296", "initial_loss": "10.8"},
    "neox-1.4b-8gpu": {"parameters": "1,414,455,296", "initial_loss": "10.8"},
    "neox-1.4b-test": {"parameters": "1,414,455,296", "initial_loss": "10.8"},
}


def plan_of(name: str, gpu: str, gpus: int, dataset_tokens: int | None = None) -> Plan:
    cluster = make_cluster(find_accelerator(gpu), gpus)
    return make_plan(load_run_config(name), cluster, Assumptions(dataset_tokens=dataset_tokens))


def found(name: str, *claims: str, gpu: str = "h100", gpus: int = 8) -> dict[str, str]:
    plan = plan_of(name, gpu, gpus, 50_000_000_000)
    return {each.name: each.message for each in find_contradictions(read_claims(None, list(claims)), plan)}


@pytest.mark.parametrize("name", WRONG)
def test_every_wrong_claim_of_a_reference_run_is_named_and_no_other(name: str) -> None:
    claims = read_claims(name, [])
    unique = None if claims.dataset_tokens is None else int(claims.dataset_tokens[0])
    messages = {each.name: each.message for each in find_contradictions(claims, plan_of(name, *MACHINES[name], unique))}
    assert set(messages) == set(WRONG[name])
    for key, truth in WRONG[name].items():
        assert truth in messages[key], messages[key]


def test_every_reference_run_has_its_claims() -> None:
    assert claim_names() == sorted(WRONG)


def test_40_hours_and_317_dollars_for_the_h100_run_are_no_contradiction() -> None:
    messages = found(
        "gpt-1b-h100", "steps=100000", "steps_per_hour=2500", "hours=40", "price_per_hour=7.92", "cost=317"
    )
    assert messages == {}


@pytest.mark.parametrize(
    ("claim", "truth"),
    [
        ("tokens_per_second=3e6", "peak"),
        ("mfu=1.04", "at most 1"),
        ("hours=10", "takes 38"),
        ("memory_gb=10", "49.8 GB"),
        ("heads=7", "cannot be divided"),
        ("heads=12", "run file has 24"),
        ("optimal_tokens=1e12", "14.9B"),
        ("lost_seconds=60", "900 s"),
    ],
)
def test_single_claims(claim: str, truth: str) -> None:
    messages = found("gpt-1b-h100", claim)
    assert list(messages) == [claim.split("=")[0]]
    assert truth in messages[claim.split("=")[0]]


@pytest.mark.parametrize(
    "claim",
    ["parameters=760e6", "parameters=0.76e9", "memory_gb=[45, 50]", "mfu=0.4", "tokens_per_second=6e5", "hours=45"],
)
def test_what_holds_is_not_contradicted(claim: str) -> None:
    assert found("gpt-1b-h100", claim) == {}


def test_figures_that_exclude_each_other() -> None:
    assert list(found("gpt-1b-h100", "final_loss=2.4", "perplexity=25")) == ["perplexity"]
    assert list(found("gpt-1b-h100", "final_loss=1000", "perplexity=25")) == ["perplexity", "final_loss"]
    assert list(found("gpt-1b-h100", "hours=40", "price_per_hour=8", "cost=1000", "steps_per_hour=2500")) == ["cost"]
    assert list(found("gpt-1b-h100", "steps=1000", "dataset_tokens=1e9", "epochs=3")) == ["epochs"]


def test_memory_is_not_compared_with_another_number_of_gpus() -> None:
    assert found("gpt-1b-h100", "memory_gb=200", "gpus=2") == {}


def test_a_file_may_keep_claims_under_their_own_key(tmp_path: Path) -> None:
    file = tmp_path / "claims.yaml"
    file.write_text("claims: {parameters: 1e9, hours: [30, 40]}\n")
    claims = read_claims(str(file), ["parameters=2e9"])
    assert (claims.parameters, claims.hours) == (2e9, (30, 40))


@pytest.mark.parametrize(
    ("claims", "single", "said"),
    [
        (None, ["speed=3"], "unknown key"),
        (None, ["mfu"], "KEY=VALUE"),
        (None, ["mfu=fast"], "mfu"),
        (None, ["mfu=[0.5, 0.3]"], "mfu: found [0.5, 0.3]; expected the lower end first"),
        (None, ["heads=0"], "heads: found 0"),
        ("nowhere.yaml", [], "neither a file nor a preset"),
    ],
)
def test_claims_that_cannot_be_read(claims: str | None, single: list[str], said: str) -> None:
    with pytest.raises(UserError) as raised:
        read_claims(claims, single)
    assert said in str(raised.value)


def test_contradictions_are_part_of_the_json() -> None:
    plan = plan_of("gpt-1b-h100", "h100", 8)
    plan = replace(plan, contradictions=find_contradictions(read_claims(None, ["parameters=1e9"]), plan))
    (only,) = plan.as_dict()["contradictions"]
    assert only["name"] == "parameters"


def test_laws_do_not_contradict_the_loss_of_a_run_that_they_were_not_made_for() -> None:
    assert found("tiny-gpt2", "final_loss=4", gpu="cpu", gpus=1) == {}
