"""The power transformation, against scikit-learn and against what it must be in theory."""

from __future__ import annotations

import numpy as np
import pytest

from icl_bayes.datasets import bundled_names, gaussianise, load_bundled, yeo_johnson
from icl_bayes.datasets.yeo_johnson import standardise


def _samples() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    return {
        "lognormal": np.exp(rng.normal(size=200)),
        "gamma": rng.gamma(2.0, 30.0, size=150),
        "normal": rng.normal(size=120),
        "left tail": -(rng.gamma(1.5, 2.0, size=100)),
        "both signs": rng.normal(size=90) ** 3 + 0.5,
        "counts": rng.poisson(2.0, size=80).astype(float),
        "large": 1e5 * np.exp(0.6 * rng.normal(size=150)),
    }


@pytest.mark.parametrize("name", sorted(_samples()))
def test_agrees_with_sklearn(name: str) -> None:
    from sklearn.preprocessing import PowerTransformer

    values = _samples()[name]
    reference = PowerTransformer(method="yeo-johnson", standardize=True)
    expected = reference.fit_transform(values[:, None])[:, 0]
    scores, exponent = gaussianise(values)
    assert exponent == pytest.approx(reference.lambdas_[0], abs=2e-4)
    np.testing.assert_allclose(scores, expected, atol=1e-3)


@pytest.mark.parametrize("exponent", [-3.0, -0.5, 0.0, 1.0, 1.7, 2.0, 4.0])
def test_transform_agrees_with_sklearn_at_a_given_exponent(exponent: float) -> None:
    from sklearn.preprocessing import PowerTransformer

    values = np.linspace(-3.0, 5.0, 41)
    reference = PowerTransformer(method="yeo-johnson", standardize=False).fit(values[:, None])
    reference.lambdas_ = np.array([exponent])
    np.testing.assert_allclose(yeo_johnson(values, exponent), reference.transform(values[:, None])[:, 0], rtol=1e-10)


def test_identity_at_one_and_increasing() -> None:
    values = np.linspace(-4.0, 4.0, 101)
    np.testing.assert_allclose(yeo_johnson(values, 1.0), values, atol=1e-12)
    for exponent in (-2.0, 0.0, 0.5, 2.0, 3.0):
        assert (np.diff(yeo_johnson(values, exponent)) > 0).all()


def test_exponent_is_at_the_maximum_of_the_likelihood() -> None:
    """Computed anew from the textbook formula: profile log likelihood of a normal with a Jacobian."""

    def log_likelihood(values: np.ndarray, exponent: float) -> float:
        jacobian = (exponent - 1.0) * np.sum(np.sign(values) * np.log1p(np.abs(values)))
        return -0.5 * len(values) * np.log(yeo_johnson(values, exponent).var()) + jacobian

    for values in _samples().values():
        _, exponent = gaussianise(values)
        best = log_likelihood(values, exponent)
        for step in (-0.05, 0.05):
            assert log_likelihood(values, exponent + step) < best


def test_removes_skewness() -> None:
    values = _samples()["lognormal"]
    scores, _ = gaussianise(values)
    skewness = np.mean(standardise(values) ** 3)
    assert skewness > 2.0
    assert abs(np.mean(scores**3)) < 0.2


def test_values_far_from_zero_do_not_cancel() -> None:
    """A narrow spread far from zero barely determines the exponent; the scores must stay usable all the same."""
    rng = np.random.default_rng(0)
    for offset in (1e3, 1e6, -1e6):
        values = offset + rng.normal(size=60)
        scores, _ = gaussianise(values)
        assert scores.mean() == pytest.approx(0.0, abs=1e-6)
        assert scores.std() == pytest.approx(1.0, abs=1e-9)
        assert (np.argsort(scores) == np.argsort(values)).all()
        np.testing.assert_allclose(scores, standardise(values), atol=0.05)


def test_scores_of_every_bundled_response_keep_the_order() -> None:
    for name in bundled_names():
        table = load_bundled(name)
        if table.response_kind != "binary":
            scores, _ = gaussianise(table.response)
            order = np.argsort(table.response, kind="stable")
            assert (np.diff(scores[order]) >= 0).all(), name
            assert scores.std() == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("values", [np.ones(5), np.array([])])
def test_constant_values_are_refused(values: np.ndarray) -> None:
    with pytest.raises(ValueError, match="at least two different values"):
        gaussianise(values)
