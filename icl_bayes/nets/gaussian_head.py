"""A learned Gaussian base: every row contributes a Gaussian factor, and factors multiply.

A posterior of exchangeable rows is prior times a product of likelihood factors. The head mimics that
form without knowing the likelihood. About the mean m of its present Gaussian, each row j offers a few
linear predictors of theta,

    eta_jr(theta) = l_jr . c(m) + (l_jr * s(m)) . (theta - m),      l_jr = (S row_j)_r,

and observes each of them with a precision w_jr and a value z_jr that a small network reads off the
row, the predictor's mean and variance, and a summary of all rows. The prior offers one site per
coordinate, with a precision D_d and a location read off that coordinate's mean and variance, as are
the local scale s and bend c of the coordinate's map. Then

    precision = D + sum_jr w_jr L_jr L_jr',   L_jr = l_jr * s(m),

and likewise for the mean. A few rounds, each from the last one's Gaussian, let everything depend on the
fit, as iterative reweighting does in generalized linear models: expectation propagation with learned sites.
Trained by maximum likelihood on simulated draws; neither training nor inference evaluates a likelihood.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from icl_bayes.nets.config import ModelConfig, ModelShape
from icl_bayes.types import AnyArray

Array = jax.Array
RANK = 2
ROUNDS = 3
MAX_LOG_WEIGHT = 9.0
"""Bound on a site's log precision: keeps precisions within what float32 can factorize."""


class Fit(NamedTuple):
    """A round's result: mean ``(dim,)``, covariance factor ``(dim, dim)``, summary of the rows ``(width,)``."""

    mean: Array
    scale: Array
    summary: Array


class CoordinateNetworks(nnx.Module):
    """One small network per coordinate, from its mean, variance and the summary to five numbers."""

    HIDDEN, OUTPUTS, CONTEXT = 24, 5, 4

    def __init__(self, dim: int, width: int, *, rngs: nnx.Rngs) -> None:
        self.context = nnx.Linear(width, self.CONTEXT, rngs=rngs)
        inputs = 2 + self.CONTEXT
        self.hidden = nnx.Param(jax.random.normal(rngs.params(), (dim, inputs, self.HIDDEN)) / inputs**0.5)
        self.bias = nnx.Param(jax.random.normal(rngs.params(), (dim, self.HIDDEN)))
        self.out = nnx.Param(jnp.zeros((dim, self.HIDDEN, self.OUTPUTS)))
        self.offset = nnx.Param(jnp.zeros((dim, self.OUTPUTS)))

    def __call__(self, mean: Array, variance: Array, summary: Array) -> Array:
        """``(5, dim)`` from mean and variance ``(dim,)`` and the summary ``(width,)``."""
        context = jnp.broadcast_to(self.context(summary), (mean.shape[0], self.CONTEXT))
        inputs = jnp.concatenate([jnp.stack([mean, jnp.log(variance + 1e-6)], axis=1), context], axis=1)
        hidden = nnx.silu(jnp.einsum("di,dih->dh", inputs, self.hidden[...]) + self.bias[...])
        return (jnp.einsum("dh,dho->do", hidden, self.out[...]) + self.offset[...]).T


class FactorRound(nnx.Module):
    """One round: sites from rows and fit, the Gaussian that they make with the prior's, a new summary."""

    def __init__(self, config: ModelConfig, shape: ModelShape, *, rngs: nnx.Rngs) -> None:
        width, dim, features = config.width, shape.dim, shape.row_features
        self.dim = dim
        small, zeros = nnx.initializers.normal(0.02), nnx.initializers.zeros_init()
        self.row = nnx.Linear(features + 2 * RANK + width, width, rngs=rngs)
        self.row_middle = nnx.Linear(width, width, rngs=rngs)
        self.site = nnx.Linear(width, 3 * RANK, kernel_init=small, rngs=rngs)
        self.value = nnx.Linear(features, RANK, kernel_init=small, rngs=rngs)
        self.shared = nnx.Linear(width, RANK, kernel_init=zeros, rngs=rngs)
        self.coordinates = CoordinateNetworks(dim, width, rngs=rngs)
        self.evidence = nnx.Linear(features + 4 * RANK, width, rngs=rngs)
        self.summary = nnx.Linear(2 * width + 2 * dim, width, rngs=rngs)
        self.summary_out = nnx.Linear(width, width, rngs=rngs)

    def __call__(self, rows: Array, row_mask: AnyArray, loadings: Array, fit: Fit) -> Fit:
        """Rows ``(n, features)``, mask ``(n,)``, loadings ``l`` ``(n, RANK, dim)``."""
        mean, scale, summary = fit
        shared = self.shared(summary)
        log_slope, bend, log_prior, location, pull = self.coordinates(mean, jnp.sum(scale**2, axis=1), summary)
        slope = jnp.exp(jnp.clip(log_slope, -4.0, 2.0))
        predictors = loadings * slope
        predicted = loadings @ (mean + bend)
        spread = jnp.sum((predictors @ scale) ** 2, axis=-1)

        def site(row: Array, predicted: Array, spread: Array) -> tuple[Array, Array]:
            h = nnx.silu(self.row(jnp.concatenate([row, jnp.arcsinh(predicted), jnp.log(spread + 1e-4), summary])))
            h = h + nnx.silu(self.row_middle(h))
            log_weight, gain, change = jnp.split(self.site(h), 3)
            value = self.value(row) + gain * predicted + change
            return jnp.exp(jnp.clip(log_weight + shared, -MAX_LOG_WEIGHT, MAX_LOG_WEIGHT)), value

        weights, values = jax.vmap(site)(rows, predicted, spread)
        weights = jnp.where(row_mask[:, None], weights, 0.0)
        prior = jnp.exp(jnp.clip(log_prior, -4.0, 6.0))
        weighted = weights[:, :, None] * predictors
        precision = jnp.diag(prior) + jnp.einsum("jrd,jre->de", weighted, predictors)
        offsets = values - predicted + predictors @ mean
        linear = prior * (location + pull * mean) + jnp.einsum("jrd,jr->d", weighted, offsets)
        cholesky = jnp.linalg.cholesky(precision)
        inverse = jax.scipy.linalg.solve_triangular(cholesky, jnp.eye(self.dim), lower=True)
        new_mean, new_scale = inverse.T @ (inverse @ linear), inverse.T

        fitted = predicted + predictors @ (new_mean - mean)
        errors = values - fitted
        leverage = jnp.sum((predictors @ new_scale) ** 2, axis=-1)
        seen = [rows, jnp.arcsinh(fitted), jnp.arcsinh(errors), jnp.log(errors**2 + 1e-3), jnp.log(leverage + 1e-4)]
        evidence = nnx.silu(jax.vmap(self.evidence)(jnp.concatenate(seen, axis=1)))
        evidence = jnp.sum(jnp.where(row_mask[:, None], evidence, 0.0), axis=0) / jnp.sum(row_mask)
        state = jnp.concatenate([summary, evidence, new_mean, jnp.log(jnp.diagonal(cholesky))])
        return Fit(new_mean, new_scale, summary + self.summary_out(nnx.silu(self.summary(state))))


class GaussianHead(nnx.Module):
    """Means ``(ROUNDS, dim)`` and covariance factors ``(ROUNDS, dim, dim)``; the last round's is the base."""

    def __init__(self, config: ModelConfig, shape: ModelShape, *, rngs: nnx.Rngs) -> None:
        self.dim = shape.dim
        self.loadings = nnx.Linear(shape.row_features, RANK * shape.dim, use_bias=True, rngs=rngs)
        self.start = nnx.Linear(config.width, config.width, rngs=rngs)
        self.rounds = nnx.List([FactorRound(config, shape, rngs=rngs) for _ in range(ROUNDS)])

    def __call__(self, rows: Array, row_mask: AnyArray, pooled: Array) -> tuple[Array, Array]:
        """Rows ``(n, row_features)``, mask ``(n,)``, pooled memory ``(width,)``."""
        loadings = self.loadings(rows).reshape(-1, RANK, self.dim)
        fit = Fit(jnp.zeros(self.dim), jnp.eye(self.dim), self.start(pooled))
        fits = []
        for one in self.rounds:
            fit = one(rows, row_mask, loadings, fit)
            fits.append(fit)
        return jnp.stack([fit.mean for fit in fits]), jnp.stack([fit.scale for fit in fits])
