"""A learned Gaussian base: every row contributes a Gaussian factor, and factors multiply.

A posterior of exchangeable rows is prior times a product of likelihood factors. The head mimics
that form without knowing the likelihood: from each row (and pooled memory) it predicts low-rank
natural parameters, sums them over rows and adds a prior's,

    precision = D + sum_j A_j A_j',      precision @ mean = e + sum_j A_j b_j,

which is learned expectation propagation. A second round lets the factors depend on the first
round's fit at their row, as iterative reweighting does in generalized linear models. Trained by
maximum likelihood on simulated draws; neither training nor inference evaluates a likelihood.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from icl_bayes.nets.config import ModelConfig, ModelShape
from icl_bayes.types import AnyArray

Array = jax.Array
RANK = 2
ROUNDS = 3
MAX_CONTRIBUTION = 1e3
"""Bound on the entries of a row's factor: keeps precisions within what float32 can factorize."""


class FactorRound(nnx.Module):
    """Row factors ``A_j (dim, RANK)`` and ``b_j (RANK,)`` from a row, the pooled memory and a fit."""

    def __init__(self, config: ModelConfig, shape: ModelShape, *, rngs: nnx.Rngs) -> None:
        width = 2 * config.width
        self.dim = shape.dim
        small = nnx.initializers.normal(0.02)
        inputs = shape.row_features + config.width + 2 * RANK
        self.hidden = nnx.Linear(inputs, width, rngs=rngs)
        self.middle = nnx.Linear(width, width, rngs=rngs)
        self.factor = nnx.Linear(width, shape.dim * RANK, kernel_init=small, rngs=rngs)
        self.skip = nnx.Linear(shape.row_features, shape.dim * RANK, rngs=rngs)
        self.weight = nnx.Linear(width, RANK, kernel_init=small, rngs=rngs)
        self.offset = nnx.Linear(width, RANK, kernel_init=small, rngs=rngs)

    def __call__(self, row: Array, pooled: Array, fit: Array) -> tuple[Array, Array]:
        h = nnx.silu(self.hidden(jnp.concatenate([row, pooled, fit])))
        h = h + nnx.silu(self.middle(h))
        factor = (self.skip(row) + self.factor(h)).reshape(self.dim, RANK)
        # The weight scales a row's information up and down by orders of magnitude.
        factor = factor * jnp.exp(jnp.clip(self.weight(h), -6.0, 6.0))
        return jnp.clip(factor, -MAX_CONTRIBUTION, MAX_CONTRIBUTION), jnp.clip(10.0 * self.offset(h), -1e3, 1e3)


class GaussianHead(nnx.Module):
    """Mean ``(dim,)`` and covariance factor ``(dim, dim)`` of a data set's posterior."""

    def __init__(self, config: ModelConfig, shape: ModelShape, *, rngs: nnx.Rngs) -> None:
        self.dim = shape.dim
        self.rounds = nnx.List([FactorRound(config, shape, rngs=rngs) for _ in range(ROUNDS)])
        zeros = nnx.initializers.zeros_init()
        self.prior = nnx.List(
            [nnx.Linear(config.width, 2 * shape.dim, kernel_init=zeros, rngs=rngs) for _ in range(ROUNDS)]
        )

    def __call__(self, rows: Array, row_mask: AnyArray, pooled: Array) -> tuple[Array, Array]:
        """Rows ``(n, row_features)``, mask ``(n,)``, pooled memory ``(width,)``."""
        fit = jnp.zeros((rows.shape[0], 2 * RANK))
        mean, scale = jnp.zeros(self.dim), jnp.eye(self.dim)
        for factor_round, prior in zip(self.rounds, self.prior, strict=True):
            factors, offsets = jax.vmap(factor_round, (0, None, 0))(rows, pooled, fit)
            factors = jnp.where(row_mask[:, None, None], factors, 0.0)
            log_precision, location = jnp.split(prior(pooled), 2)
            base_precision = jnp.exp(jnp.clip(log_precision, -4.0, 6.0))
            precision = jnp.diag(base_precision) + jnp.einsum("jdr,jer->de", factors, factors)
            linear = base_precision * location + jnp.einsum("jdr,jr->d", factors, offsets)
            cholesky = jnp.linalg.cholesky(precision)
            inverse = jax.scipy.linalg.solve_triangular(cholesky, jnp.eye(self.dim), lower=True)
            mean, scale = inverse.T @ (inverse @ linear), inverse.T
            # How each row is fitted, for the next round: its prediction error and its leverage.
            errors = jnp.einsum("jdr,d->jr", factors, mean) - offsets
            leverage = jnp.sum(jnp.einsum("jdr,de->jre", factors, scale) ** 2, axis=-1)
            fit = jnp.concatenate([jnp.arcsinh(errors), jnp.arcsinh(leverage)], axis=1)
        return mean, scale
