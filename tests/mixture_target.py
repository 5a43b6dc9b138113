"""A skewed, bimodal target on the line with everything about its paths in closed form."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

WEIGHTS = np.asarray([0.55, 0.45])
MEANS = np.asarray([-0.9, 1.1])
SDS = np.asarray([0.4, 0.8])


def responsibilities(x, variances, means):
    """Posterior probabilities ``(..., 2)`` of the components at ``x (...)``."""
    logs = jnp.log(WEIGHTS) - 0.5 * jnp.log(variances) - 0.5 * (x[..., None] - means) ** 2 / variances
    weights = jnp.exp(logs - jnp.max(logs, axis=-1, keepdims=True))
    return weights / jnp.sum(weights, axis=-1, keepdims=True)


def residual_score(x1):
    """Derivative of ``log target - log N(0, 1)``."""
    share = responsibilities(x1, SDS**2, MEANS)
    return jnp.sum(share * (MEANS - x1[..., None]) / SDS**2, axis=-1) + x1


def true_velocity(path, t, x):
    """``E[d x_t / d t | x_t = x]``: within a component, ``x_1`` and ``x_t`` are jointly Gaussian."""
    alpha, sigma, alpha_dot, sigma_dot = path.coefficients(t)
    variances = alpha**2 * SDS**2 + sigma**2
    share = responsibilities(x, variances, alpha * MEANS)
    deviation = (x[..., None] - alpha * MEANS) / variances
    x1 = MEANS + alpha * SDS**2 * deviation
    x0 = sigma * deviation
    return jnp.sum(share * (alpha_dot * x1 + sigma_dot * x0), axis=-1)


def quadrature(num: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Nodes ``x_1`` and weights of an integral over the target."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(num)
    weights = weights / weights.sum()
    x1 = (MEANS[:, None] + SDS[:, None] * nodes).ravel()
    return x1, (WEIGHTS[:, None] * weights).ravel()
