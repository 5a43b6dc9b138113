"""What column tokens are made of: averaged scores and rows' derivatives, against quadrature and finite differences."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from icl_bayes.tasks.regression import make_regression, prior_constants
from icl_bayes.tasks.token_view import row_derivatives
from icl_bayes.types import Dataset

X = np.asarray([[0.5], [-1.2], [2.0], [0.3]], np.float32)
Y = np.asarray([1.0, 0.0, 1.0, 0.0], np.float32)


@pytest.mark.parametrize(("kind", "tolerance"), [(0, 2e-3), (1, 2e-2)])
def test_scores_are_averaged_over_the_gaussian(kind: int, tolerance: float) -> None:
    """One coefficient with a normal, then a Student t prior: dense quadrature in the place of three points."""
    task = make_regression("bernoulli", 1, intercept=False)
    dataset = task.prepare(Dataset(x=X, y=Y, constants=prior_constants("beta", [kind], [0.2], [1.0], [3.0])))
    scale, theta, spread = 0.6, 0.7, 0.8

    @jax.jit
    def scores(theta):
        assert task.tokens is not None
        return task.tokens(dataset, jnp.asarray([0.4]), jnp.asarray([[scale]])).scores(theta, jnp.asarray(spread))

    averaged, center = np.asarray(scores(jnp.asarray([theta])))[:, 0]
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    points = theta + spread * scale * nodes
    gradient = jax.jit(jax.vmap(jax.grad(task.log_joint), (0, None)))
    values = np.asarray(gradient(jnp.asarray(points, jnp.float32)[:, None], dataset))[:, 0]
    expected = float(weights @ values / weights.sum())
    assert averaged == pytest.approx(expected, abs=tolerance)
    assert center == pytest.approx(float(gradient(jnp.full((1, 1), theta), dataset)[0, 0]), abs=1e-5)
    assert abs(center - expected) > 3.0 * tolerance  # or the average would have nothing to show


def test_derivatives_of_rows() -> None:
    """Of a Poisson row, y eta - exp(eta), they are known."""
    offset = jnp.asarray([0.3, -1.0, 1.5])
    y = jnp.asarray([2.0, 0.0, 3.0])
    first, second, third = row_derivatives(lambda eta: jnp.sum(y * eta - jnp.exp(eta)), offset)
    np.testing.assert_allclose(first, y - jnp.exp(offset), rtol=1e-6)
    np.testing.assert_allclose(second, -jnp.exp(offset), rtol=1e-6)
    np.testing.assert_allclose(third, -jnp.exp(offset), rtol=1e-6)
