"""The law of the rows of a factor model given loadings, means and uniquenesses, the factors of the rows integrated out.

    x_j = mu + W f_j + e_j,   f_j ~ N(0, I_d),   e_j ~ N(0, diag(psi)),   hence   x_j ~ N(mu, W W' + diag(psi)).

Of the rows only mean and scatter matter. Their covariance is inverted through its ``d`` by ``d`` part (Woodbury), and
the quadratic form is a sum of squares of residuals and factor scores, so that nothing cancels in single precision.
"""

from __future__ import annotations

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from numpyro.distributions import constraints

from icl_bayes.types import AnyArray, Array

_LOG_2PI = float(np.log(2.0 * np.pi))


def inverse_and_log_det(matrix: Array) -> tuple[Array, Array]:
    """Inverse and log determinant of a small positive definite ``(d, d)`` matrix by sweeping (Goodnight, 1979).

    Written out, since a library call per draw costs more than everything else here.
    """
    log_det = jnp.zeros(())
    for k in range(matrix.shape[0]):
        pivot = matrix[k, k]
        log_det = log_det + jnp.log(pivot)
        row = matrix[k] / pivot
        column = matrix[:, k]
        swept = matrix - column[:, None] * row
        swept = swept.at[k].set(row).at[:, k].set(-column / pivot)
        matrix = swept.at[k, k].set(1.0 / pivot)
    return matrix, log_det


def mean_and_scatter(x: Array, row_mask: AnyArray) -> tuple[Array, Array, Array]:
    """Number of rows that exist ``()``, their mean ``(P,)`` and scatter ``(P, P)`` about it."""
    weights = jnp.asarray(row_mask, x.dtype)[:, None]
    num_rows = jnp.sum(weights)
    mean = jnp.sum(weights * x, axis=0) / num_rows
    centred = jnp.where(weights > 0, x - mean, 0.0)
    return num_rows, mean, centred.T @ centred


class CommonFactorRows(dist.Distribution):
    """Rows ``(n, P)`` of a factor model with a factor of its own for every row.

    Args:
        loadings: ``(P, d)``.
        mean: ``(P,)``.
        uniqueness: ``(P,)`` variances, above zero.
        row_mask: ``(n,)``, rows that exist.
    """

    arg_constraints: ClassVar = {"mean": constraints.real_vector}
    support = constraints.real_matrix  # pyright: ignore[reportAssignmentType]  # NumPyro: "as a class attribute or as a property"

    def __init__(self, loadings: Array, mean: Array, uniqueness: Array, row_mask: AnyArray) -> None:
        self.loadings, self.mean_of_rows, self.uniqueness, self.row_mask = loadings, mean, uniqueness, row_mask
        super().__init__(event_shape=(row_mask.shape[0], loadings.shape[0]), validate_args=False)

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        if sample_shape:
            return jax.vmap(self.sample)(jax.random.split(key, sample_shape))
        factor_key, noise_key = jax.random.split(key)
        factors = jax.random.normal(factor_key, (self.event_shape[0], self.loadings.shape[1]))
        noise = jnp.sqrt(self.uniqueness) * jax.random.normal(noise_key, self.event_shape)
        return self.mean_of_rows + factors @ self.loadings.T + noise

    def log_prob(self, value: Array) -> Array:
        """Log density of the rows that exist, ``()``."""
        num_rows, mean, scatter = mean_and_scatter(value, self.row_mask)
        num_features, num_factors = self.loadings.shape
        scaled = self.loadings / self.uniqueness[:, None]
        inverse, log_det = inverse_and_log_det(jnp.eye(num_factors) + self.loadings.T @ scaled)
        to_factors = inverse @ scaled.T  # expected factors of a centred row
        to_residuals = jnp.eye(num_features) - self.loadings @ to_factors
        offset = mean - self.mean_of_rows

        def squares(matrix: Array) -> Array:
            """``sum_j |matrix (x_j - mu)|^2`` by row of ``matrix``."""
            return jnp.sum((matrix @ scatter) * matrix, axis=1) + num_rows * (matrix @ offset) ** 2

        quadratic = jnp.sum(squares(to_residuals) / self.uniqueness) + jnp.sum(squares(to_factors))
        log_det = log_det + jnp.sum(jnp.log(self.uniqueness))
        return -0.5 * (num_rows * (num_features * _LOG_2PI + log_det) + quadratic)
