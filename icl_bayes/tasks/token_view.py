"""What a network of column tokens sees of a data set: one token per coordinate of theta, one cell per row and token.

Everything is in whitened coordinates, those of a Gaussian close to the posterior, and in units of the rows' own
curvature, so that it does not depend on the units of columns and responses. Whitening by a symmetric root keeps
coordinates apart: permuted columns are permuted tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from icl_bayes.types import AnyArray, Array, Dataset

NODE = 3.0**0.5
"""Of the three-point Gauss-Hermite rule, whose weights are 1/6, 2/3 and 1/6."""
_MIN_CURVATURE = 1e-12


class TokenView(NamedTuple):
    """A data set as tokens.

    Attributes:
        cells: ``(n, dim, c)``, what row i says of coordinate j.
        shares: ``(n, dim)``, of the information on a coordinate that is owed to each row; zero for masked rows.
        context: ``(dim, k)``, of the coordinates: whether they exist, their priors, and what holds for the whole data
            set.
        row_mask: ``(n,)`` boolean.
        scores: ``(theta (dim,), spread ()) -> (2, dim)``: gradients of the log joint, averaged over the Gaussian's
            shape times ``spread`` about ``theta``, and at ``theta`` itself.
    """

    cells: Array
    shares: Array
    context: Array
    row_mask: AnyArray
    scores: Callable[[Array, Array], Array]


class LinearPredictor(NamedTuple):
    """A model in which rows depend on theta through one number each, to which a row ``offset`` is added.

    Attributes:
        value: ``(theta, dataset) -> (n,)``.
        log_likelihood, log_prior: ``(theta, dataset) -> ()``; the prior is of independent coordinates.
    """

    value: Callable[[Array, Dataset], Array]
    log_likelihood: Callable[[Array, Dataset], Array]
    log_prior: Callable[[Array, Dataset], Array]


def row_cells(model: LinearPredictor, dataset: Dataset, shift: Array, scale: Array) -> tuple[Array, Array, Array]:
    """Cells ``(n, dim, c)``, shares ``(n, dim)`` and standard deviations ``(n,)`` of linear predictors.

    Args:
        shift, scale: ``(dim,)`` and ``(dim, dim)`` of the Gaussian.
    """
    slopes = jax.jacfwd(model.value)(shift, dataset) @ scale
    slopes = jnp.where(dataset.row_mask[:, None], slopes, 0.0)
    first, second, third = row_derivatives(
        lambda offset: model.log_likelihood(shift, with_offset(dataset, offset)), jnp.asarray(dataset["offset"])
    )
    information = jnp.maximum(-second, _MIN_CURVATURE)
    root = jnp.sqrt(information)
    sd = jnp.sqrt(jnp.sum(slopes**2, axis=1))
    leverage = sd * root
    whitened = slopes * root[:, None]
    per_row = jnp.stack(
        [
            jnp.arcsinh(first / root),
            jnp.arcsinh(third / (information * root)) / 2.0,
            jnp.arcsinh(third * sd / information),
            leverage,
            jnp.log(leverage + 1e-3),
        ],
        axis=1,
    )
    cells = jnp.concatenate(
        [
            whitened[:, :, None],
            (whitened**2)[:, :, None],
            (whitened / (leverage[:, None] + 1e-6))[:, :, None],
            jnp.broadcast_to(per_row[:, None, :], (*slopes.shape, per_row.shape[1])),
        ],
        axis=2,
    )
    cells = jnp.where(dataset.row_mask[:, None, None], bounded(cells), 0.0)
    shares = jnp.where(dataset.row_mask[:, None], jnp.minimum(whitened**2, 1.0), 0.0)
    return cells, shares, sd


def bounded(values: Array, limit: float = 8.0) -> Array:
    """The same where it is small, at most ``limit`` far out, zero where it is not a number."""
    finite = jnp.where(jnp.isfinite(values), jnp.clip(values, -1e6, 1e6), 0.0)
    return finite / jnp.sqrt(1.0 + (finite / limit) ** 2)


def row_derivatives(log_likelihood: Callable[[Array], Array], offset: Array) -> tuple[Array, Array, Array]:
    """First to third derivatives of every row's log likelihood in its own offset, ``(n,)`` each."""
    ones = jnp.ones_like(offset)
    first = jax.grad(log_likelihood)

    def second(offset: Array) -> Array:
        return jax.jvp(first, (offset,), (ones,))[1]

    value, third = jax.jvp(second, (offset,), (ones,))
    return first(offset), value, third


def make_scores(model: LinearPredictor, dataset: Dataset, scale: Array, sd: Array) -> Callable[[Array, Array], Array]:
    """See :class:`TokenView`.

    The average over ``N(theta, spread^2 scale scale')`` needs integrals of one dimension only: over every row's linear
    predictor, and over every coordinate of the prior. Coordinates that a row depends on beside its linear predictor
    (a dispersion) stay where they are.
    """
    own = jnp.linalg.norm(scale, axis=1)
    offset = jnp.asarray(dataset["offset"])

    def at(node: Array, theta: Array, spread: Array) -> Array:
        shifted = with_offset(dataset, offset + node * spread * sd)
        return model.log_likelihood(theta, shifted) + model.log_prior(theta + node * spread * own, dataset)

    nodes = jnp.asarray([-NODE, 0.0, NODE])

    def scores(theta: Array, spread: Array) -> Array:
        below, center, above = jax.vmap(jax.grad(at, argnums=1), (0, None, None))(nodes, theta, spread)
        return jnp.stack([(below + 4.0 * center + above) / 6.0, center])

    return scores


def with_offset(dataset: Dataset, offset: Array) -> Dataset:
    return dataset.replace(rows={**dataset.rows, "offset": offset})
