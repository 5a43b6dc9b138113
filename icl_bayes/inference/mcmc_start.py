"""Draws as a warm start for chains of NumPyro's and blackjax's own samplers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from numpyro import handlers
from numpyro.distributions.transforms import biject_to

from icl_bayes.tasks import Task
from icl_bayes.types import Array, Dataset

if TYPE_CHECKING:
    from icl_bayes.inference.posterior import Posterior

SHRINK_TO, SHRINK_WEIGHT = 1e-3, 5.0
"""Stan's regularization of a covariance: towards so much of the identity, with the weight of so many draws."""


@dataclass(frozen=True)
class NumpyroStart:
    """Where chains of NumPyro's NUTS start, and how they are scaled: NumPyro's own unconstrained coordinates.

    Attributes:
        init_params: ``{site: (num_chains, *shape)}``, for ``MCMC.run(..., init_params=...)``; without the leading axis
            for one chain.
        inverse_mass_matrix: ``(dim, dim)`` covariance of all sites in the order of their names, for
            ``NUTS(..., inverse_mass_matrix=..., dense_mass=True)``.
    """

    init_params: dict[str, np.ndarray]
    inverse_mass_matrix: np.ndarray


@dataclass(frozen=True)
class BlackjaxStart:
    """The same in the task's coordinates, for kernels of blackjax.

    Attributes:
        positions: ``(num_chains, dim)``.
        inverse_mass_matrix: ``(dim, dim)``.
        log_density_fn: ``(dim,) -> ()``, the log joint given the data.
    """

    positions: np.ndarray
    inverse_mass_matrix: np.ndarray
    log_density_fn: Callable[[Array], Array]


def numpyro_start(post: Posterior, rng_key: Array, num_chains: int) -> NumpyroStart:
    """See :meth:`icl_bayes.Posterior.numpyro_start`."""
    unconstrained = _in_numpyros_coordinates(post)
    chosen = _chosen(rng_key, post.num_draws, num_chains)
    flat = np.asarray(jax.vmap(lambda one: ravel_pytree(one)[0])(unconstrained), np.float64)
    starts = {name: value[chosen] if num_chains > 1 else value[chosen[0]] for name, value in unconstrained.items()}
    return NumpyroStart(starts, covariance(flat))


def blackjax_start(post: Posterior, rng_key: Array, num_chains: int) -> BlackjaxStart:
    """See :meth:`icl_bayes.Posterior.blackjax_start`."""
    chosen = _chosen(rng_key, post.num_draws, num_chains)
    dataset = jax.tree.map(jnp.asarray, post.dataset)
    return BlackjaxStart(
        post.theta[chosen],
        covariance(np.asarray(post.theta, np.float64)),
        lambda theta: post.task.log_joint(theta, dataset),
    )


def covariance(draws: np.ndarray) -> np.ndarray:
    """Regularized covariance of draws ``(num, dim)``."""
    num, dim = draws.shape
    sample = np.atleast_2d(np.cov(draws.T)) if num > 1 else np.zeros((dim, dim))
    weight = num / (num + SHRINK_WEIGHT)
    return weight * sample + (1.0 - weight) * SHRINK_TO * np.eye(dim)


def _chosen(rng_key: Array, num_draws: int, num_chains: int) -> np.ndarray:
    if not 1 <= num_chains <= num_draws:
        raise ValueError(f"num_chains must lie between 1 and the number of draws, {num_draws}; received {num_chains}.")
    return np.asarray(jax.random.permutation(rng_key, num_draws)[:num_chains])


def _in_numpyros_coordinates(post: Posterior) -> dict[str, Any]:
    """Sites under NumPyro's own bijectors, given their parents, ``{site: (num_draws, *shape)}``."""
    sites = {name: jnp.asarray(post.sites[name]) for name in post.task.sites}
    return jax.device_get(_converter(post.task)(sites, jax.tree.map(jnp.asarray, post.dataset)))


@lru_cache(maxsize=16)
def _converter(task: Task) -> Callable[[dict[str, Array], Dataset], dict[str, Array]]:
    """Kept with its compiled program: compiling takes longer than the warm-up that it spares."""

    def one(sites: dict[str, Array], dataset: Dataset) -> dict[str, Array]:
        seeded = handlers.seed(handlers.substitute(task.model, data=sites), jax.random.key(0))
        trace = handlers.trace(seeded).get_trace(dataset)
        return {name: biject_to(trace[name]["fn"].support).inv(value) for name, value in sites.items()}

    return jax.jit(jax.vmap(one, (0, None)))
