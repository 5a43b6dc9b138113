"""What EM finds in the rows of a mixture, for an encoder to read beside them.

Near the noise end of its path a velocity depends on the data set alone: on where its clusters lie, how large they are
and how sure that is. A few EM steps from a few spread-out starts say so; to find out by itself costs a small encoder
most of what it can do.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from icl_bayes.tasks.coordinates import log_gamma_from_normal
from icl_bayes.tasks.mixture_denoiser import make_em_step, make_log_likelihood, make_responsibilities
from icl_bayes.tasks.normal_mixture import mean_of_rows
from icl_bayes.types import Array, Dataset

NUM_EM_STEPS, NUM_MODE_STEPS = 12, 40
HEIGHT_SCALE, LOWEST = 5.0, -3.0
"""Log posterior densities are told in units of so many nats below the best mode, and no lower than this."""


def spread_out_rows(dataset: Dataset, center: Array, num: int) -> Array:
    """``num`` rows of ``x``, each the farthest from ``center`` and those before (Gonzalez, 1985), ``(num, L)``."""
    x = jnp.asarray(dataset["x"], jnp.float32)

    def farthest(nearest: Array, _: None) -> tuple[Array, Array]:
        chosen = x[jnp.argmax(jnp.where(dataset.row_mask, nearest, -1.0))]
        return jnp.minimum(nearest, jnp.sum((x - chosen) ** 2, axis=1)), chosen

    return jax.lax.scan(farthest, jnp.sum((x - center) ** 2, axis=1), None, length=num)[1]


def starting_means(dataset: Dataset, num_components: int) -> Array:
    """Means to start EM from, ``(3, num_components, L)``, functions of the rows whatever their order.

    Rows far apart, counting the center as taken; the row in the middle and rows far from it; points along the first
    principal axis.
    """
    x, mask = jnp.asarray(dataset["x"], jnp.float32), jnp.asarray(dataset.row_mask)
    center = mean_of_rows(dataset)
    centred = jnp.where(mask[:, None], x - center, 0.0)
    middle = x[jnp.argmin(jnp.where(mask, jnp.sum(centred**2, axis=1), jnp.inf))]
    around = jnp.concatenate([middle[None], spread_out_rows(dataset, middle, num_components - 1)])
    covariance = centred.T @ centred / jnp.sum(mask)
    variances, axes = jnp.linalg.eigh(covariance)
    axis = axes[:, -1] * jnp.where(jnp.sum(axes[:, -1]) < 0.0, -1.0, 1.0)
    places = jnp.linspace(-1.2, 1.2, num_components)[:, None]
    along = center + places * jnp.sqrt(jnp.maximum(variances[-1], 0.0)) * axis
    return jnp.stack([spread_out_rows(dataset, center, num_components), around, along])


def make_mode_starts(num_components: int, num_columns: int) -> Callable[[Dataset], Array]:
    """``dataset -> (3 M, dim)``, EM solutions to look for modes around, functions of the rows whatever their order.

    From the means of :func:`starting_means`, of which the first one, two, ... or all hold rows at first; the others
    have little weight and lie at zero.
    """
    em_step = make_em_step(num_components, num_columns)
    present = jnp.tril(jnp.ones((num_components, num_components), bool))

    def solution(means: Array, holds: Array, dataset: Dataset) -> Array:
        gamma = jnp.where(holds, 0.5, -1.0)
        theta = jnp.concatenate([gamma, _standardized(jnp.where(holds[:, None], means, 0.0), dataset)])
        return jax.lax.scan(lambda one, _: (em_step(one, dataset), None), theta, None, length=NUM_MODE_STEPS)[0]

    def starts(dataset: Dataset) -> Array:
        over_number = jax.vmap(solution, (None, 0, None))
        found = jax.vmap(over_number, (0, None, None))(starting_means(dataset, num_components), present, dataset)
        return found.reshape(-1, found.shape[-1])

    return starts


def _standardized(means: Array, dataset: Dataset) -> Array:
    """Coordinates ``(2 M L,)`` of variances at their prior median and of means ``(M, L)``."""
    constants = {name: jnp.asarray(value) for name, value in dataset.constants.items()}
    shape, rate = constants["sigma2_concentration"], constants["sigma2_rate"]
    log_precision, _ = log_gamma_from_normal(shape, rate, jnp.zeros(()))
    mu = means * jnp.exp(0.5 * log_precision) / jnp.sqrt(constants["mean_spread"])
    return jnp.concatenate([jnp.zeros(means.size), mu.ravel()])


def make_summaries(num_components: int, num_columns: int) -> Callable[[Dataset], Array]:
    """``dataset -> (3 M, 2 L + 5)``, one token per component of every solution.

    A token holds the component's coordinates of theta, its share of the rows, their number (log), how clearly they
    belong to it (1 if without doubt), and the height of its solution relative to the best.
    """
    em_step = make_em_step(num_components, num_columns)
    responsibilities = make_responsibilities(num_components, num_columns)
    log_likelihood = make_log_likelihood(num_components, num_columns)
    sizes = num_components * (1 + num_columns)

    def solution(means: Array, dataset: Dataset) -> tuple[Array, Array]:
        theta = jnp.concatenate([jnp.zeros(num_components), _standardized(means, dataset)])
        theta, _ = jax.lax.scan(lambda one, _: (em_step(one, dataset), None), theta, None, length=NUM_EM_STEPS)
        shares = responsibilities(theta, dataset)
        counts = jnp.sum(shares, axis=0)
        clear = jnp.sum(shares**2, axis=0) / (counts + 1e-6)
        gamma, sigma2, mu = jnp.split(theta, [num_components, sizes])
        blocks = [block.reshape(num_components, -1) for block in (gamma, sigma2, mu)]
        others = jnp.stack([counts / dataset.num_rows, jnp.log1p(counts) / 3.0, clear], axis=1)
        height = log_likelihood(theta, dataset) - 0.5 * jnp.sum(theta**2)
        return jnp.concatenate([*blocks, others], axis=1), height

    def summaries(dataset: Dataset) -> Array:
        tokens, heights = jax.vmap(solution, (0, None))(starting_means(dataset, num_components), dataset)
        below = jnp.clip((heights - jnp.max(heights)) / HEIGHT_SCALE, LOWEST, 0.0)
        below = jnp.broadcast_to(below[:, None, None], (*tokens.shape[:2], 1))
        return jnp.concatenate([tokens, below], axis=-1).reshape(-1, tokens.shape[-1] + 1)

    return summaries
