"""Dependence between columns: Gaussian scores with a random correlation matrix."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from icl_bayes.tasks.covariates.base import Array, normal_draws, row_normals, uniform_draws

# Weights of the latent directions fall off as exp(-decay * index): at zero the directions
# count alike, at the upper end two or three of them carry all columns.
_MAX_DECAY = 1.5


def copula_scores(
    rng_key: Array, num_columns: int, num_rows: int, independent_share: float, max_strength: float
) -> Array:
    """Standard normal scores ``(p, n)``, dependent between columns and independent between rows.

    A data set is independent with probability ``independent_share``. Otherwise its columns are
    unit-variance combinations of p latent directions: a strength drawn uniformly from
    ``(0, max_strength)`` sets how far each column leaves its own direction for a random one,
    and a random decay how many directions matter. At strength one, columns can be nearly
    collinear.
    """
    if num_columns == 1 or independent_share >= 1.0:
        return row_normals(rng_key, num_columns, num_rows)
    noise_key, mixing_key, shape_key = jax.random.split(rng_key, 3)
    noise = row_normals(noise_key, num_columns, num_rows)
    (common,) = normal_draws(mixing_key, (num_columns, num_columns))
    dependent, strength, decay = uniform_draws(shape_key, (), (), ())
    strength = jnp.where(dependent >= independent_share, max_strength * strength, 0.0)
    weights = jnp.exp(-_MAX_DECAY * decay * jnp.arange(num_columns, dtype=jnp.float32))
    common = _unit_rows(common * weights[None, :])
    mixing = jnp.sqrt(1.0 - strength) * jnp.eye(num_columns, dtype=jnp.float32) + jnp.sqrt(strength) * common
    return jnp.matmul(_unit_rows(mixing), noise, precision=jax.lax.Precision.HIGHEST)


def _unit_rows(matrix: Array) -> Array:
    return matrix * jax.lax.rsqrt(jnp.sum(matrix * matrix, axis=1, keepdims=True))
