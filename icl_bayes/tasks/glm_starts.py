"""Where mode searches of generalized linear models begin, beside zero: posteriors may have several modes."""

from __future__ import annotations

import jax.numpy as jnp

from icl_bayes.types import Array, Dataset

SMALLEST_POSITIVE = 0.02
"""Prior means; where a coefficient of one sign that would be smaller or negative starts."""


def gaussian_starts(dataset: Dataset, *, nonnegative: bool, intercept: bool) -> dict[str, Array]:
    """Slightly ridged least squares and its residual variance, one point.

    Where prior and data disagree, shrunken coefficients with much noise, and fitted ones with little, can
    be modes apart; the search from zero finds the first, though the second may have the mass.
    """
    x, constants = dataset["x"], dataset.constants
    mask = dataset.row_mask.astype(x.dtype)
    design = jnp.concatenate([jnp.ones_like(x[:, :1]), x], axis=1) if intercept else x
    design, y = design * mask[:, None], dataset["y"] * mask
    coefficients = jnp.linalg.solve(design.T @ design + 0.1 * jnp.eye(design.shape[1]), design.T @ y)
    beta = coefficients[int(intercept) :]
    if nonnegative:
        beta = jnp.maximum(beta, SMALLEST_POSITIVE * constants["beta_scale"])
        coefficients = coefficients.at[int(intercept) :].set(beta)
    squares = jnp.sum((y - design @ coefficients) ** 2)
    concentration = constants["noise_concentration"] + 0.5 * jnp.sum(mask)
    sites = {"beta": beta, "sigma2": (constants["noise_rate"] + 0.5 * squares) / concentration}
    if intercept:
        sites["intercept"] = coefficients[0]
    return {name: value[None] for name, value in sites.items()}


def gamma_starts(dataset: Dataset) -> dict[str, Array]:
    """Three points for a gamma regression.

    With variance sigma2 and mean mu << 1, log y is about ``-E / mu^2`` with E exponential, so
    ``-log(-log y) / 2`` estimates the linear predictor; where mu >> 1, log y itself does. Ridge
    regression on this pseudo-response, weighted by the squared mean, leads to the mode of nearly every
    simulated data set. Real responses do not follow the law; there the mode is more often reached from
    zero, from half way, or from an unweighted regression.
    """
    log_y, x = dataset["log_y"], dataset["x"]
    pseudo = jnp.where(log_y > -1.0, log_y, -1.0 - 0.5 * jnp.log(jnp.maximum(-log_y, 1.0)))

    def ridge(weights: Array, penalty: float) -> Array:
        weights = jnp.where(dataset.row_mask, weights, 0.0)
        gram = x.T @ (weights[:, None] * x) + penalty * jnp.eye(x.shape[1])
        return jnp.linalg.solve(gram, x.T @ (weights * pseudo))

    weighted = ridge(jnp.exp(jnp.clip(2.0 * pseudo, -1.0, 10.0)), 1.0)
    plain = ridge(jnp.ones_like(pseudo), 10.0)
    return {"beta": jnp.stack([weighted, 0.5 * weighted, plain])}
