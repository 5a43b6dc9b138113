"""The learned Gaussian base contains Bayesian linear regression: with the right weights it is exact."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from icl_bayes.nets import ModelConfig, ModelShape
from icl_bayes.nets.gaussian_head import MAX_LOG_WEIGHT, RANK, ROUNDS, GaussianHead

DIM, NUM_ROWS = 3, 20
NOISE_SD, PRIOR_SD = 0.5, 2.0


@pytest.fixture
def regression() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows ``(x, y)``, and the exact posterior mean and covariance of the coefficients."""
    generator = np.random.default_rng(2)
    x = generator.normal(size=(NUM_ROWS, DIM)).astype(np.float32)
    y = (x @ [1.0, -2.0, 0.5] + NOISE_SD * generator.normal(size=NUM_ROWS)).astype(np.float32)
    covariance = np.linalg.inv(x.T.astype(float) @ x / NOISE_SD**2 + np.eye(DIM) / PRIOR_SD**2)
    return np.column_stack([x, y]), covariance @ x.T @ y / NOISE_SD**2, covariance


def head_for_regression() -> GaussianHead:
    """Weights set by hand: the first predictor is ``x . theta``, observed as y; the second is switched off."""
    head = GaussianHead(ModelConfig(width=8, heads=2), ModelShape(DIM, DIM + 1, 1), rngs=nnx.Rngs(0))
    loadings = np.zeros((DIM + 1, RANK, DIM), np.float32)
    loadings[:DIM, 0, :] = np.eye(DIM)
    head.loadings.kernel[...] = jnp.asarray(loadings.reshape(DIM + 1, -1))
    for one in head.rounds:
        for layer in (one.site, one.value, one.shared):
            layer.kernel[...] = jnp.zeros_like(layer.kernel[...])
        one.value.kernel[...] = one.value.kernel[...].at[DIM, 0].set(1.0)
        one.shared.bias[...] = jnp.asarray([np.log(NOISE_SD**-2), -MAX_LOG_WEIGHT], jnp.float32)
        offset = np.zeros((DIM, 5), np.float32)
        offset[:, 2] = np.log(PRIOR_SD**-2)  # log precision of the prior's sites
        one.coordinates.offset[...] = jnp.asarray(offset)
    return head


def test_conjugate_regression_is_represented_exactly(regression) -> None:
    rows, mean, covariance = regression
    padded = np.concatenate([rows, np.full((5, DIM + 1), 7.0, np.float32)])
    mask = np.arange(len(padded)) < NUM_ROWS
    means, scales = jax.jit(head_for_regression())(padded, mask, jnp.zeros(8))
    assert means.shape == (ROUNDS, DIM)
    for shift, scale in zip(np.asarray(means, float), np.asarray(scales, float), strict=True):
        # Sites that are switched off still count exp(-9) each.
        np.testing.assert_allclose(shift, mean, atol=2e-3)
        np.testing.assert_allclose(scale @ scale.T, covariance, rtol=2e-3, atol=1e-5)


def test_fresh_weights_give_a_proper_gaussian(regression) -> None:
    head = GaussianHead(ModelConfig(width=8, heads=2), ModelShape(DIM, DIM + 1, 1), rngs=nnx.Rngs(1))
    means, scales = head(1e3 * regression[0], np.ones(NUM_ROWS, bool), jnp.ones(8))
    assert np.isfinite(means).all()
    assert (np.diagonal(scales, axis1=1, axis2=2) > 0).all()
