"""Importance weights: Pareto's k of known tails, evidence and distance in closed form, agreement with ArviZ."""

from __future__ import annotations

import arviz
import numpy as np
import pytest
from scipy import stats

from icl_bayes.evaluation.importance_weights import fit_pareto, report_weights, smooth


@pytest.mark.parametrize("shape", [0.2, 0.5, 0.9])
def test_shape_of_pareto_tails(shape: float) -> None:
    generator = np.random.default_rng(1)
    found = [report_weights(shape * generator.exponential(size=4000)).khat for _ in range(20)]
    # The fit is drawn towards 0.5 as by ten observations of 190.
    expected = (190 * shape + 10 * 0.5) / 200
    assert np.mean(found) == pytest.approx(expected, abs=4.0 * np.std(found) / np.sqrt(20) + 0.03)


def test_fit_of_a_generalized_pareto_law() -> None:
    draws = np.sort(stats.genpareto(0.3, scale=2.0).rvs(20_000, random_state=3))
    k, sigma = fit_pareto(draws)
    assert k == pytest.approx(0.3, abs=0.03)
    assert sigma == pytest.approx(2.0, rel=0.05)


def test_gaussians_in_closed_form() -> None:
    """q = N(0, 1), p = 7 N(0.5, 0.8^2): evidence, distance and variance of the log weights are known."""
    z = np.random.default_rng(0).normal(size=200_000)
    log_weights = np.log(7.0) + stats.norm(0.5, 0.8).logpdf(z) - stats.norm.logpdf(z)
    report = report_weights(log_weights)
    grid = np.linspace(-9.0, 9.0, 200_001)
    density = stats.norm(0.5, 0.8).pdf(grid)
    distance = 0.5 * np.trapezoid(np.abs(density - stats.norm.pdf(grid)), grid)
    ratio = np.trapezoid(density**2 / stats.norm.pdf(grid), grid)
    assert abs(report.log_evidence - np.log(7.0)) < 4.0 * report.log_evidence_error
    assert report.total_variation == pytest.approx(distance, abs=0.005)
    assert report.ess == pytest.approx(len(z) / ratio, rel=0.03)
    assert report.khat < 0.5
    assert np.exp(report.log_weights).sum() == pytest.approx(1.0)


def test_standard_error_of_the_evidence_covers() -> None:
    generator, inside = np.random.default_rng(5), []
    for _ in range(300):
        z = generator.normal(size=500)
        report = report_weights(stats.norm(0.3, 0.9).logpdf(z) - stats.norm.logpdf(z))
        inside.append(abs(report.log_evidence) < 1.96 * report.log_evidence_error)
    assert 0.90 <= np.mean(inside) <= 0.99


def test_equal_weights_need_no_smoothing() -> None:
    report = report_weights(np.full(100, -3.0))
    assert report.khat == -np.inf
    assert report.ess == pytest.approx(100.0)
    assert (report.log_evidence, report.total_variation) == (-3.0, 0.0)


def test_smoothing_as_in_arviz() -> None:
    log_weights = 0.6 * np.random.default_rng(2).exponential(size=1500) - 4.0
    if hasattr(arviz, "psislw"):
        theirs, k = arviz.psislw(log_weights.copy())
    else:  # ArviZ 1, which asks for what weights are the inverse of
        from arviz_stats.base import array_stats  # pyright: ignore[reportMissingImports]

        theirs, k = array_stats.psislw(-log_weights)
    ours, khat = smooth(log_weights)
    ours = ours - np.log(np.sum(np.exp(ours - ours.max()))) - ours.max()
    assert khat == pytest.approx(float(k), abs=0.02)
    np.testing.assert_allclose(np.asarray(theirs), ours, atol=0.03)


def test_weights_that_are_no_numbers_are_never_good() -> None:
    bad = np.zeros(100)
    for value in (np.nan, np.inf):
        bad[3] = value
        report = report_weights(bad)
        assert report.khat == np.inf
        assert np.isnan(report.log_evidence)
        assert report.total_variation == 1.0
    bad[3] = -np.inf  # a draw where the posterior vanishes is allowed
    report = report_weights(bad)
    assert report.log_evidence == pytest.approx(np.log(0.99))
    with pytest.raises(ValueError, match="at least 20 draws"):
        report_weights(np.zeros(7))


def test_rounding_errors_are_no_tail() -> None:
    """Weights of a Gaussian posterior under itself, as single precision has them: no shape is fitted to their noise."""
    generator = np.random.default_rng(0)
    z = generator.normal(size=(1000, 10)).astype(np.float32)
    log_q = (-0.5 * (z**2).sum(axis=1)).astype(np.float32)
    log_p = (-0.5 * ((z + np.float32(7.0)) - np.float32(7.0)) ** 2).sum(axis=1)
    report = report_weights((log_p - log_q).astype(np.float64))
    assert 0.0 < report.var_log_weight < 1e-9
    assert report.khat == -np.inf
    assert report.ess == pytest.approx(1000.0, rel=1e-6)


def test_a_few_larger_weights_among_equal_ones_are_a_short_tail() -> None:
    """Differences of most weights are rounding errors, and many are ties."""
    generator = np.random.default_rng(0)
    log_weights = np.round(1e-5 * generator.normal(size=10_000) / 4e-6) * 4e-6 - 20.0
    for outlier in (0.002, 0.01, 0.05):
        log_weights[:3] = outlier - 20.0
        report = report_weights(log_weights)
        assert report.khat < 0.6
        assert report.ess == pytest.approx(10_000.0, rel=1e-3)
    # Few weights that carry all are no ties, however small the others are beside them.
    for shape in (2.0, 8.0, 20.0):
        assert smooth(shape * generator.exponential(size=10_000))[1] > 1.0
