"""Density of a network's posterior at given points."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from icl_bayes.flow import MAX_RESIDUAL, Solver
from icl_bayes.training.network import Network, Params
from icl_bayes.types import Array, Dataset

if TYPE_CHECKING:
    from icl_bayes.inference.network import AmortizedPosterior

AT_ONCE = 128
"""Points per compiled call."""


def log_prob_at(
    net: AmortizedPosterior, dataset: Dataset, sites: Mapping[str, np.ndarray], solver: Solver
) -> np.ndarray:
    """See :meth:`AmortizedPosterior.log_prob`."""
    prepared = net.prepare(dataset)
    values = _checked(net.network, sites)
    num = len(next(iter(values.values())))
    padded = prepared.pad_rows(net.padded_length(prepared.padded_rows))
    key = (padded.padded_rows, solver)
    if key not in net._density_programs:
        net._density_programs[key] = jax.jit(lambda *arguments: _at_points(net.network, solver, *arguments))
    program = net._density_programs[key]
    found = []
    for first in range(0, num, AT_ONCE):
        # The last value stands for those that are missing: one program serves any number.
        index = np.minimum(np.arange(first, first + AT_ONCE), num - 1)
        chunk = {name: value[index] for name, value in values.items()}
        found.append(np.stack(jax.device_get(program(net.params, padded, chunk))))
    log_prob, residual = np.concatenate(found, axis=1)[:, :num]
    lost = ~(residual <= MAX_RESIDUAL) | ~np.isfinite(log_prob)
    if lost.any():
        warnings.warn(
            f"{int(lost.sum())} of {num} points could not be traced back to the base; their densities are NaN. The "
            "network hardly ever draws there.",
            UserWarning,
            stacklevel=3,
        )
    return np.where(lost, np.nan, log_prob)


def _at_points(
    network: Network, solver: Solver, params: Params, dataset: Dataset, sites: dict[str, Array]
) -> tuple[Array, Array]:
    """Log densities and residuals, ``(num,)`` each."""
    task = network.task
    thetas = jax.vmap(lambda one: task.unconstrain(one, dataset))(sites)
    affine, _ = network.find_base(params, dataset)
    found = network.log_prob(params, dataset, affine, thetas, solver)
    return found.log_prob - jax.vmap(task.log_volume, (0, None))(thetas, dataset), found.residual


def _checked(network: Network, sites: Mapping[str, np.ndarray]) -> dict[str, Array]:
    task = network.task
    missing = [name for name in task.sites if name not in sites]
    if missing:
        raise ValueError(f"log_prob needs a value for every site of {task.name!r}; missing: {missing}.")
    shapes = jax.eval_shape(task.constrain, jnp.zeros(task.dim), task.example)
    values = {name: jnp.asarray(np.asarray(sites[name]), jnp.float32) for name in task.sites}
    nums = {value.shape[0] if value.ndim else 0 for value in values.values()}
    for name, value in values.items():
        if value.shape[1:] != shapes[name].shape or len(nums) != 1 or 0 in nums:
            expected = ("num", *shapes[name].shape)
            raise ValueError(
                f"log_prob expects site {name!r} of shape {expected}, num the same for all; received {value.shape}."
            )
    return values
