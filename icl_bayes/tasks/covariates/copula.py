"""Dependence between columns: Gaussian scores with a random correlation matrix."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from icl_bayes.tasks.covariates.base import Array

# Weights of the latent directions fall off as exp(-decay * index): at zero the directions
# count alike, at the upper end two or three of them carry all columns.
_MAX_DECAY = 1.5


def correlate(noise: Array, draws: Array, common: Array, independent_share: float, max_strength: float) -> Array:
    """Standard normal scores, dependent between columns and independent between rows.

    A data set is independent with probability ``independent_share``. Otherwise its columns are
    unit-variance combinations of p latent directions: a strength drawn uniformly from
    ``(0, max_strength)`` sets how far each column leaves its own direction for a random one,
    and a random decay how many directions matter. At strength one, columns can be nearly
    collinear.

    Args:
        noise: ``(p, n)`` independent standard normals.
        draws: ``(3,)`` uniform draws, one per choice above.
        common: ``(p, p)`` standard normals, the random directions.
        independent_share: probability of independent columns.
        max_strength: largest strength, in [0, 1].

    Returns:
        ``(p, n)`` scores.
    """
    num_columns = noise.shape[0]
    if num_columns == 1 or independent_share >= 1.0:
        return noise
    dependent, strength, decay = draws
    strength = jnp.where(dependent >= independent_share, max_strength * strength, 0.0)
    common = _unit_rows(common * jnp.exp(-_MAX_DECAY * decay * jnp.arange(num_columns, dtype=jnp.float32))[None, :])
    mixing = jnp.sqrt(1.0 - strength) * jnp.eye(num_columns, dtype=jnp.float32) + jnp.sqrt(strength) * common
    return jnp.matmul(_unit_rows(mixing), noise, precision=jax.lax.Precision.HIGHEST)


def _unit_rows(matrix: Array) -> Array:
    return matrix * jax.lax.rsqrt(jnp.sum(matrix * matrix, axis=1, keepdims=True))
