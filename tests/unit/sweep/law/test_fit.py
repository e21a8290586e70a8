"""Laws from points of a known law, with and without noise, and designs from which none can be told."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from scipy.optimize import minimize

from trainer.errors import UserError
from trainer.plan.scaling_law import FITS, Fit
from trainer.sweep.law.fit import Points, _made, fit_law, interval, resampled_laws
from trainer.sweep.law.points import LawPoint, check_design


def points_of(law: Fit, *, noise: float = 0.0, sizes: int = 6, lengths: int = 6) -> list[LawPoint]:
    """Runs of 44M to 16G parameters and 1G to 1T tokens, as in the paper; noise is that of log loss."""
    generator = np.random.default_rng(1)
    return [
        LawPoint("", int(n), int(d), law.loss(n, d) * float(np.exp(noise * generator.standard_normal())))
        for n in np.geomspace(44e6, 16e9, sizes)
        for d in np.geomspace(1e9, 1e12, lengths)
    ]


@pytest.mark.parametrize("law", FITS, ids=lambda law: law.name)
def test_the_published_laws_are_found_again(law: Fit) -> None:
    found = fit_law(points_of(law), "found", "")
    for name in ("irreducible", "a", "b", "alpha", "beta"):
        assert getattr(found, name) == pytest.approx(getattr(law, name), rel=1e-3), name


def test_noise_moves_the_law_within_its_intervals() -> None:
    law = FITS[1]
    points = points_of(law, noise=2e-3)
    found = fit_law(points, "found", "")
    assert found.irreducible == pytest.approx(law.irreducible, rel=0.05)
    assert found.alpha == pytest.approx(law.alpha, rel=0.15)
    assert found.beta == pytest.approx(law.beta, rel=0.15)
    # Five times as far as the largest run, in both directions.
    assert found.loss(80e9, 5e12) == pytest.approx(law.loss(80e9, 5e12), rel=0.01)
    told: list[int] = []
    others = resampled_laws(points, 30, 1, told.append)
    assert told == list(range(1, 31))
    low, high = interval([each.alpha for each in others])
    assert low < law.alpha < high
    assert resampled_laws(points, 2, 1, told.append) == others[:2]


def test_one_run_that_went_wrong_does_not_move_the_law() -> None:
    law = FITS[0]
    points = points_of(law)
    points[10] = LawPoint("", points[10].parameters, points[10].tokens, points[10].loss * 1.5)
    assert fit_law(points, "", "").irreducible == pytest.approx(law.irreducible, rel=0.02)


def test_no_other_minimiser_from_the_papers_grid_finds_a_better_law() -> None:
    points = points_of(FITS[0], noise=5e-3, sizes=4, lengths=4)
    made = _made(points)
    ours = objective_of(made, fit_law(points, "", ""))
    theirs = min(
        float(minimize(huber, start, args=(made,), method="BFGS").fun) for start in papers_starts() if start is not None
    )
    assert ours <= theirs * (1 + 1e-4)


def papers_starts() -> Iterator[np.ndarray]:
    """A part of the grid of Hoffmann et al.: (a, b, e, alpha, beta)."""
    for a in (5.0, 10.0):
        for b in (5.0, 10.0):
            for e in (0.0, 0.5):
                yield np.array([a, b, e, 0.5, 0.5])


def huber(theta: np.ndarray, points: Points) -> float:
    """Equation 3 of the paper, in units of delta squared."""
    a, b, e, alpha, beta = theta
    said = np.logaddexp(np.logaddexp(a - alpha * points.log_n, b - beta * points.log_d), e)
    size = np.abs(said - points.log_l) / 1e-3
    return float(np.where(size <= 1, 0.5 * size**2, size - 0.5).sum())


def objective_of(points: Points, law: Fit) -> float:
    return huber(np.array([np.log(law.a), np.log(law.b), np.log(law.irreducible), law.alpha, law.beta]), points)


def test_the_gradient_is_that_of_the_objective() -> None:
    made = _made(points_of(FITS[0], noise=0.05, sizes=3, lengths=3))
    theta = np.array([0.3, 0.2, 0.5, -1.0, -1.5])
    _, gradient = made.objective(theta)
    for i in range(5):
        step = np.zeros(5)
        step[i] = 1e-6
        slope = (made.objective(theta + step)[0] - made.objective(theta - step)[0]) / 2e-6
        assert gradient[i] == pytest.approx(slope, rel=1e-4)


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ([(10, 100), (20, 200), (40, 100)], "3 finished runs"),
        ([(10, 100 * i) for i in range(1, 8)], "1 different numbers of parameters"),
        ([(10 * i, 100) for i in range(1, 8)], "1 different numbers of tokens"),
        ([(10 * i, 200 * i) for i in range(1, 8)], "change together"),
    ],
)
def test_designs_without_a_law_are_refused(sizes: list[tuple[int, int]], said: str) -> None:
    with pytest.raises(UserError) as error:
        check_design([LawPoint("", n, d, 3.0) for n, d in sizes], {"runs/x": "it is not finished"})
    assert said in str(error.value)
    assert "runs/x: it is not finished" in str(error.value)


def test_the_optimum_is_best_at_its_compute() -> None:
    for law in FITS:
        parameters, tokens = law.optimum(1e21)
        assert 6 * parameters * tokens == pytest.approx(1e21)
        assert tokens == pytest.approx(law.optimal_tokens(parameters), rel=1e-6)
        best = law.loss(parameters, tokens)
        assert all(law.loss(parameters * f, tokens / f) > best for f in (0.5, 0.9, 1.1, 2.0))
