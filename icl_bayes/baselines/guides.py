"""Variational families over all latent sites of a program, in NumPyro's unconstrained space."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from numpyro.distributions import constraints
from numpyro.infer.autoguide import (
    AutoContinuous,
    AutoDiagonalNormal,
    AutoIAFNormal,
    AutoMultivariateNormal,
)

from icl_bayes.types import Array

Guide = AutoContinuous


class AutoStructuredNormal(AutoContinuous):
    """Multivariate normal given earlier sites, on which its mean depends linearly.

    Site ``i`` is ``loc_i + d_i`` with deviation ``d_i = scale_i * (L_i @ noise_i) + sum_j W_ij @ d_j``
    over earlier sites ``j``: the default of Pyro's structured guide. Scale and triangular factor
    are both learned, which is redundant and lets the overall scale move fast. All sites together
    are one Gaussian, written here by its lower triangular factor.
    """

    def __init__(self, model: Callable[..., Any], *, init_scale: float = 0.1, **options: Any) -> None:
        self._init_scale = init_scale
        super().__init__(model, **options)

    def _get_posterior(self) -> dist.MultivariateNormal:
        loc = self._param("loc", self._init_latent)
        rows: list[Array] = []  # of the factor, one block per site, (size, latent_dim)
        start = 0
        for name, value in self._init_locs.items():
            size = jnp.size(value)
            scale = self._param(f"{name}_scale", jnp.full(size, self._init_scale), constraints.softplus_positive)
            factor = self._param(f"{name}_scale_tril", jnp.eye(size), constraints.softplus_lower_cholesky)
            after = self.latent_dim - start - size
            row = jnp.pad(scale[:, None] * factor, ((0, 0), (start, after)))
            if rows:
                weights = self._param(f"{name}_weights", jnp.zeros((size, start)))
                row = row + weights @ jnp.concatenate(rows)
            rows.append(row)
            start += size
        return dist.MultivariateNormal(loc, scale_tril=jnp.concatenate(rows))

    def _param(self, name: str, initial: Array, constraint: Any = constraints.real) -> Array:
        return jnp.asarray(numpyro.param(f"{self.prefix}_{name}", initial, constraint=constraint))


def make_iaf(model: Callable[..., Any]) -> Guide:
    """One inverse autoregressive transform, as in the paper (Pyro's default)."""
    return AutoIAFNormal(model, num_flows=1)


GUIDES: dict[str, Callable[..., Guide]] = {
    "diagonal": AutoDiagonalNormal,
    "full": AutoMultivariateNormal,
    "structured": AutoStructuredNormal,
    "iaf": make_iaf,
}
