"""The one network for all regressions: against quadrature, its symmetries end to end, and what it refuses."""

from __future__ import annotations

import jax
import numpy as np
import pandas as pd
import pytest

import icl_bayes
from icl_bayes.inference.gaussian_source import GaussianSource
from icl_bayes.regression import Prior
from icl_bayes.regression.network import regression_network, trained_network
from icl_bayes.regression.priors import RegressionPriors
from icl_bayes.types import Dataset

GENERATOR = np.random.default_rng(2)
X = GENERATOR.normal(size=(12, 1)).astype(np.float32)
Y = (GENERATOR.uniform(size=12) < 1.0 / (1.0 + np.exp(-2.0 * X[:, 0]))).astype(np.float32)
PRIORS = RegressionPriors(None, (Prior("half_normal", 0.0, 1.5),), None)


@pytest.fixture(scope="module")
def net():
    return regression_network("bernoulli", 1, intercept=False)


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return Dataset(x=X, y=Y, constants=PRIORS.constants())


def test_draws_follow_the_posterior_more_closely_than_their_base(net, dataset) -> None:
    """One coefficient, by quadrature; its distribution function, in the Kolmogorov distance."""
    grid = np.linspace(1e-6, 12.0, 20_001)
    linear = X[:, :1].astype(np.float64) * grid
    log_density = (Y[:, None] * linear - np.logaddexp(0.0, linear)).sum(axis=0) - 0.5 * (grid / 1.5) ** 2
    density = np.exp(log_density - log_density.max())
    cdf = np.cumsum(density) / density.sum()

    def distance(draws: np.ndarray) -> float:
        values = np.sort(draws.ravel().astype(np.float64))
        ranks = (np.arange(len(values)) + 0.5) / len(values)
        return float(np.abs(np.interp(values, grid, cdf) - ranks).max())

    key = jax.random.key(0)
    base = distance(GaussianSource(net.task).sample(key, dataset, 4000)["beta"])
    found = distance(net.sample(key, dataset, 4000)["beta"])
    assert found < base
    assert found < 0.045  # of 4000 exact draws 0.02 in 95 of 100 cases


def test_weights_serve_tables_of_any_width() -> None:
    """One set of weights, and no more than 20 MB of it."""
    widths = [regression_network("poisson", columns).network.template for columns in (1, 7)]
    shapes = [jax.tree.map(lambda leaf: leaf.shape, one) for one in widths]
    assert jax.tree.all(jax.tree.map(lambda a, b: a == b, *shapes, is_leaf=lambda leaf: isinstance(leaf, tuple)))
    assert sum(array.nbytes for array in trained_network().arrays.values()) < 20e6
    with pytest.raises(ValueError, match="up to 20 columns; the design has 21"):
        regression_network("poisson", 21)


def test_unknown_engines_are_refused() -> None:
    with pytest.raises(ValueError, match="Unknown engine 'fast'; choices: auto, gaussian, network"):
        icl_bayes.glm("y ~ x", pd.DataFrame({"x": X[:, 0], "y": Y}), "bernoulli", engine="fast")


@pytest.mark.slow
def test_glm_by_the_network() -> None:
    frame = pd.DataFrame({"x": X[:, 0], "y": Y})
    found = icl_bayes.glm("y ~ 0 + x", frame, "bernoulli", {"x": "half_normal(1.5)"}, engine="network", num_draws=400)
    assert "network" in found.engine or found.engine == "NUTS"
    assert found.certificate.verdict != "rejected"


def test_the_prior_of_a_call_takes_the_place_of_the_data_sets(net, dataset) -> None:
    key = jax.random.key(1)
    other = RegressionPriors(None, (Prior("half_normal", 0.0, 0.2),), None)
    stated = net.sample(key, dataset, 500, prior={"x[0]": "half_normal(0.2)"})
    known = net.sample(key, dataset.replace(constants=other.constants()), 500)
    assert stated["beta"] == pytest.approx(known["beta"], rel=1e-5)
    assert stated["beta"].mean() < 0.5 * net.sample(key, dataset, 500)["beta"].mean()
    with pytest.raises(ValueError, match="does not have"):
        net.sample(key, dataset, prior={"x[1]": "normal(0, 1)"})


@pytest.mark.parametrize(
    ("prior", "match"),
    [("student_t(1, 0, 1)", "of shape 3 to 8 in training"), ("normal(5, 1)", "more than 2 scales from zero")],
)
def test_priors_unlike_those_of_the_training_are_pointed_out(net, dataset, prior, match) -> None:
    with pytest.warns(UserWarning, match=match):
        found = net.sample(jax.random.key(1), dataset, 50, prior={"coefficients": prior})
    assert any(match in note for note in found.notes)
