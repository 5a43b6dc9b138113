"""Mixtures of normal laws with diagonal covariances, whose densities cost one matrix product.

``sum_l precision_l (x_l - mu_l)^2`` is linear in ``(x_l^2, x_l)``, which do not depend on the parameters. For many
draws at once, what would be a pass over all rows, components and columns for each becomes a product of two matrices:
three to eight times as fast on a CPU, gradients included. The form cancels where ``x`` lies many standard deviations
from zero, and is therefore taken around a center of the rows.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpyro.distributions as dist

from icl_bayes.types import Array, Dataset


def log_component_densities(rows: Array, center: Array, log_scale: Array, precision: Array, mu: Array) -> Array:
    """``log_scale_m - 0.5 sum_l precision_ml (x_l - mu_ml)^2`` of every row and component.

    Args:
        rows: ``(..., L)``.
        center: ``(L,)``, near which most rows lie; any value gives the same densities but for rounding.
        log_scale: ``(M,)``.
        precision, mu: ``(M, L)``.

    Returns:
        ``(..., M)``.
    """
    rows, mu = rows - center, mu - center
    powers = jnp.concatenate([rows**2, rows], axis=-1)
    factors = jnp.concatenate([-0.5 * precision, precision * mu], axis=-1)
    # An accelerator's default, half the digits, would be lost in the difference of large numbers.
    products = jnp.matmul(powers, factors.T, precision=jax.lax.Precision.HIGHEST)
    return products + (log_scale - 0.5 * jnp.sum(precision * mu**2, axis=-1))


def mean_of_rows(dataset: Dataset) -> Array:
    """Of ``x``, ``(L,)``, over rows that exist."""
    x, mask = jnp.asarray(dataset["x"], jnp.float32), dataset.row_mask[:, None]
    return jnp.sum(jnp.where(mask, x, 0.0), axis=0) / jnp.maximum(jnp.sum(mask), 1)


class NormalMixture(dist.MixtureSameFamily):
    """Rows ``(L,)`` from one of ``M`` normal laws with diagonal covariance.

    Args:
        weights: ``(M,)``, positive, of any sum.
        mu, sigma2: ``(M, L)``, means and variances.
        center: ``(L,)``, near which values lie whose density is asked for.
    """

    pytree_data_fields = ("_center",)

    def __init__(self, weights: Array, mu: Array, sigma2: Array, center: Array | float = 0.0) -> None:
        components = dist.Normal(mu, jnp.sqrt(sigma2)).to_event(1)
        super().__init__(dist.Categorical(logits=jnp.log(weights)), components)
        self._center = jnp.broadcast_to(jnp.asarray(center), jnp.shape(mu)[-1:])

    def component_log_probs(self, value: Array) -> Array:
        """Of values ``(..., L)``, log of weight times density, ``(..., M)``."""
        normal = self.component_distribution.base_dist
        precision = normal.scale**-2
        log_normalizer = 0.5 * jnp.sum(jnp.log(2.0 * jnp.pi / precision), axis=-1)
        log_scale = jax.nn.log_softmax(self.mixing_distribution.logits) - log_normalizer
        return log_component_densities(value, self._center, log_scale, precision, normal.loc)
