"""A law's document, page and text, and its way into a plan."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from rich.console import Console

from tests.unit.pages.reading import Page
from tests.unit.sweep.law.test_fit import points_of
from trainer.config_file import load_run_config
from trainer.errors import UserError
from trainer.plan.law_file import read_law
from trainer.plan.request import Request, answer
from trainer.plan.scaling_law import FITS
from trainer.sweep.law.page import write_page
from trainer.sweep.law.report import LawReport, LawRequest, make_report, report_law
from trainer.sweep.law.text import print_law

LAW = FITS[1]


@pytest.fixture
def report() -> LawReport:
    law = dataclasses.replace(LAW, name="own", source="36 runs")
    others = [dataclasses.replace(law, alpha=law.alpha * f) for f in (0.99, 1.0, 1.01)]
    return make_report(law, points_of(LAW), others, 1e9, 2e10, 1e21)


def test_answers_and_intervals(report: LawReport) -> None:
    assert report.predictions[0].loss == LAW.loss(1e9, 2e10)
    low, high = report.predictions[0].interval
    assert low < LAW.loss(1e9, 2e10) < high
    assert report.largest_residual < 1e-6
    (best,) = report.optima
    assert (best.parameters, best.tokens) == LAW.optimum(1e21)
    assert best.parameters_interval[0] < best.parameters < best.parameters_interval[1]
    assert report.warnings == ()
    bent = make_report(dataclasses.replace(report.law, alpha=9.99), points_of(LAW), [LAW], None, None, None)
    assert "exponent of parameters is at its bound" in bent.warnings[0]
    assert "off the law" in bent.warnings[1]
    far = make_report(report.law, points_of(LAW), [LAW], 1e15, 1e9, None)
    assert "far from those of the runs" in far.warnings[0]


def test_a_law_in_which_size_does_not_matter_has_no_best_size() -> None:
    flat = dataclasses.replace(LAW, a=0.0)
    found = make_report(flat, points_of(LAW), [LAW], None, None, 1e21)
    assert found.optima == ()
    assert "no best size" in " ".join(found.warnings)
    (best,) = make_report(LAW, points_of(LAW), [flat, LAW], None, None, 1e21).optima
    assert best.parameters_interval == (best.parameters, best.parameters)


def test_the_document_is_a_law_file_of_the_plan(report: LawReport, tmp_path: Path) -> None:
    file = tmp_path / "law.json"
    file.write_text(report.model_dump_json())
    assert read_law(file) == report.law
    plan = answer(Request(load_run_config("gpt2-124m"), gpu="h100", dataset_tokens="1e10", law=file)).plan
    assert plan.tokens is not None
    assert list(plan.losses) == ["own"]
    assert plan.as_dict()["losses"] == plan.losses
    published = answer(Request(load_run_config("gpt2-124m"), gpu="h100", dataset_tokens="1e10")).plan
    assert list(published.losses) == [fit.name for fit in FITS]
    assert published.losses[LAW.name] == plan.losses["own"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[]", "not a JSON object"),
        ("{", "not a JSON object"),
        ("[" * 100_000, "not a JSON object"),
        ('{"name": "x", "source": "y", "irreducible": -1, "a": 0, "b": 1, "alpha": 1}', "irreducible"),
    ],
)
def test_what_is_no_law_is_refused(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "law.json").write_text(text)
    with pytest.raises(UserError) as error:
        read_law(tmp_path / "law.json")
    assert said in str(error.value)
    with pytest.raises(UserError, match=r"none\.json"):
        read_law(tmp_path / "none.json")


def test_page_and_text(report: LawReport, tmp_path: Path) -> None:
    write_page(report, tmp_path / "law.html")
    page = Page((tmp_path / "law.html").read_text(encoding="utf-8"))
    assert len(page.all("svg")) >= 3
    assert len(page.all("circle")) == 2 * len(report.points) + 4
    console = Console(record=True, width=100)
    print_law(report, console)
    shown = console.export_text()
    for words in ("0.3478", "1e+21 FLOP are best spent on", "36 runs"):
        assert words in shown


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"parameters": "many", "tokens": "1e9"}, "--parameters many"),
        ({"parameters": "1e9"}, "without the other"),
        ({"flops": "-1"}, "--flops -1"),
        ({"flops": "1e400"}, "--flops 1e400"),
    ],
)
def test_bad_questions_are_refused_before_runs_are_read(options: dict[str, str], said: str) -> None:
    with pytest.raises(UserError) as error:
        report_law(LawRequest(["nowhere"], **options), lambda _: None)
    assert said in str(error.value)


def test_a_place_without_runs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no run"):
        report_law(LawRequest([str(tmp_path)]), lambda _: None)
