"""Marginal shapes as cheap monotone maps of standard normal scores.

Scores are ``(p, n)``; every parameter is ``(p, 1)``, one value per column. Results are not
standardised. Being monotone, the maps leave the Gaussian copula of the scores intact.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from icl_bayes.tasks.covariates.base import Array


def student_t(scores: Array, degrees: Array) -> Array:
    """Student-t quantiles by Wallace's (1959) normal approximation.

    From 2 degrees up within 5 % for scores up to two; at a score of three 22 % too far out with
    2 degrees, 3 % with 8.
    """
    factor = (8.0 * degrees + 3.0) / (8.0 * degrees + 1.0)
    return jnp.sign(scores) * jnp.sqrt(degrees * jnp.expm1(jnp.square(factor * scores) / degrees))


def lognormal(scores: Array, scale: Array) -> Array:
    """Lognormal values with log standard deviation ``scale``."""
    return jnp.exp(scale * scores)


def gamma_like(scores: Array, shape: Array) -> Array:
    """Gamma quantiles by the Wilson-Hilferty cube, cut at zero (good for ``shape`` above about 0.5)."""
    root = 1.0 - 1.0 / (9.0 * shape) + scores / (3.0 * jnp.sqrt(shape))
    return shape * jnp.maximum(root, 0.0) ** 3


def bounded(scores: Array, spread: Array) -> Array:
    """Values in (0, 1): bell-shaped for ``spread`` below 1, uniform at 1, piled up at both ends above."""
    return 0.5 + 0.5 * jax.scipy.special.erf(spread * scores * 0.7071067811865476)


def bimodal(scores: Array, gap: Array, split: Array) -> Array:
    """Two bells ``gap`` further apart than the normal, parted at the score ``split``."""
    return scores + gap * jax.nn.sigmoid(12.0 * (scores - split))


def zero_inflated(scores: Array, threshold: Array) -> Array:
    """Zero up to ``threshold``, the exceedance above it."""
    return jnp.maximum(scores - threshold, 0.0)


def inner_range(scores: Array, row_mask: Array) -> tuple[Array, Array]:
    """Smallest and largest valid score of each column, both ``(p, 1)`` and drawn in by a little.

    A threshold kept between the two has valid scores on either side, so that no column becomes
    constant, however few its rows.
    """
    valid = jnp.asarray(row_mask, bool)[None, :]
    low = jnp.min(jnp.where(valid, scores, jnp.inf), axis=1, keepdims=True)
    high = jnp.max(jnp.where(valid, scores, -jnp.inf), axis=1, keepdims=True)
    margin = 0.01 * (high - low)
    return low + margin, high - margin


def levels_from_draws(
    share_draws: Array, code_draws: Array, num_levels: Array, nominal: Array, min_share: float
) -> tuple[Array, Array]:
    """Random thresholds and codes that turn scores into levels.

    Level probabilities are ``min_share`` plus a uniform draw from the simplex over what is
    left; with two levels the rate is uniform on ``(min_share, 1 - min_share)``.

    Args:
        share_draws: ``(p, max_levels)`` uniform draws that make the probabilities.
        code_draws: ``(p, max_levels)`` uniform draws that make the permutations.
        num_levels: ``(p,)`` integers from 2 to ``max_levels``.
        nominal: ``(p,)`` boolean; codes follow the order of the levels where false, and are a
            random permutation of it where true.
        min_share: smallest probability of a level; ``max_levels * min_share <= 1``.

    Returns:
        ``cuts`` ``(p, max_levels - 1)``, increasing, infinite beyond the last level, and
        ``codes`` ``(p, max_levels)``.
    """
    level = jnp.broadcast_to(jnp.arange(share_draws.shape[1])[None, :], share_draws.shape)
    active = level < num_levels[:, None]
    weights = jnp.where(active, 1e-6 - jnp.log1p(-share_draws), 0.0)
    weights = weights / jnp.sum(weights, axis=1, keepdims=True)
    free = 1.0 - min_share * num_levels[:, None]
    probabilities = jnp.where(active, min_share + free * weights, 0.0)
    cumulative = jnp.cumsum(probabilities, axis=1)[:, :-1]
    cuts = jnp.where(active[:, 1:], jax.scipy.special.ndtri(jnp.clip(cumulative, 1e-6, 1.0 - 1e-6)), jnp.inf)
    draws = jnp.where(active, code_draws, 2.0)
    ranks = jnp.sum(draws[:, None, :] < draws[:, :, None], axis=2)
    return cuts, jnp.where(nominal[:, None], ranks, level).astype(jnp.float32)


def to_levels(scores: Array, num_levels: Array, cuts: Array, codes: Array, low: Array, high: Array) -> Array:
    """Code of the level each score falls in, ``(p, n)``; see ``levels_from_draws`` and ``inner_range``.

    The lowest cut is kept below the largest valid score and the highest above the smallest,
    so at least two levels occur.
    """
    values = codes[:, :1]
    for index in range(cuts.shape[1]):
        cut = cuts[:, index : index + 1]
        if index == 0:
            cut = jnp.minimum(cut, high)
        cut = jnp.where(num_levels[:, None] == index + 2, jnp.maximum(cut, low), cut)
        step = codes[:, index + 1 : index + 2] - codes[:, index : index + 1]
        values = values + jnp.where(scores > cut, step, 0.0)
    return values
