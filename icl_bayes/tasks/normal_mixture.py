"""Mixtures of normal laws with diagonal covariances, whose densities cost one matrix product.

``sum_l precision_l (x_l - mu_l)^2`` is linear in ``(x_l^2, x_l)``, which do not depend on the parameters. For many
draws at once, what would be a pass over all rows, components and columns for each becomes a product of two matrices:
several times as fast on a CPU, gradients included. Components come before rows, since sums over a short last axis are
slow. The form cancels where ``x`` lies many standard deviations from zero, and is therefore taken around a center of
the rows.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from numpyro.distributions.util import validate_sample

from icl_bayes.types import Array, Dataset


def log_component_densities(rows: Array, center: Array, log_scale: Array, precision: Array, mu: Array) -> Array:
    """``log_scale_m - 0.5 sum_l precision_ml (x_l - mu_ml)^2`` of every row and component.

    Args:
        rows: ``(..., L)``.
        center: ``(L,)``, near which most rows lie; any value gives the same densities but for rounding.
        log_scale: ``(M,)``.
        precision, mu: ``(M, L)``.

    Returns:
        ``(M, ...)``.
    """
    rows, mu = rows - center, mu - center
    powers = jnp.concatenate([rows**2, rows], axis=-1)
    factors = jnp.concatenate([-0.5 * precision, precision * mu], axis=-1)
    # An accelerator's default, half the digits, would be lost in the difference of large numbers.
    products = jnp.tensordot(factors, powers, (-1, -1), precision=jax.lax.Precision.HIGHEST)
    offset = log_scale - 0.5 * jnp.sum(precision * mu**2, axis=-1)
    return products + jnp.expand_dims(offset, range(1, products.ndim))


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

    pytree_data_fields = ("_log_weights", "_mu", "_sigma2", "_center")

    def __init__(self, weights: Array, mu: Array, sigma2: Array, center: Array | float = 0.0) -> None:
        components = dist.Normal(mu, jnp.sqrt(sigma2)).to_event(1)
        logits = jnp.log(weights)
        super().__init__(dist.CategoricalLogits(logits), components)
        self._log_weights, self._mu, self._sigma2 = jax.nn.log_softmax(logits), mu, sigma2
        self._center = jnp.broadcast_to(jnp.asarray(center), jnp.shape(mu)[-1:])

    def component_log_probs(self, value: Array) -> Array:
        """Of values ``(..., L)``, log of weight times density, ``(..., M)``."""
        return jnp.moveaxis(self._of_components(value), 0, -1)

    @validate_sample
    def log_prob(self, value: Array, intermediates: object = None) -> Array:
        """Of values ``(..., L)``, ``(...)``."""
        return jax.nn.logsumexp(self._of_components(value), axis=0)

    def _of_components(self, value: Array) -> Array:
        log_scale = self._log_weights - 0.5 * jnp.sum(jnp.log(2.0 * jnp.pi * self._sigma2), axis=-1)
        return log_component_densities(value, self._center, log_scale, 1.0 / self._sigma2, self._mu)
