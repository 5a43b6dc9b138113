"""Held-out quality during training: C2ST of network draws against exact-start draws.

Data sets come from validation seeds (below 10,000), which tables never use. The chains are long
and thinned, started at the generating theta; for the unimodal posteriors at hand that is exact.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from icl_bayes.baselines.gaussians import laplace_of
from icl_bayes.evaluation.two_sample import c2st
from icl_bayes.flow import Affine, Solver
from icl_bayes.tasks import Task
from icl_bayes.training.config import NetworkConfig
from icl_bayes.training.network import Network, Params
from icl_bayes.training.targets import Targets, make_targets

NUM_DRAWS = 1000
VALIDATION_SEED = 4321


class HeldOut(NamedTuple):
    """Validation data sets with reference draws.

    Attributes:
        targets: stacked data sets ``(k, ...)``.
        references: ``k`` matrices of compared sites, ``(NUM_DRAWS, D)``.
        laplace_c2st: mean C2ST of the Laplace approximation on the same data sets.
        gaussian_c2st: the same of the closest Gaussian, the base that a ``variational`` network starts from.
    """

    targets: Targets
    references: list[np.ndarray]
    laplace_c2st: float
    gaussian_c2st: float


def compared_matrices(task: Task, targets: Targets, thetas: np.ndarray) -> list[np.ndarray]:
    """Constrained, compared sites of draws ``(k, num_draws, dim)``, one matrix per data set."""
    constrain = jax.jit(jax.vmap(jax.vmap(task.constrain, (0, None))))
    sites = jax.device_get(constrain(thetas, targets.dataset))
    return [task.compared_matrix({name: value[i] for name, value in sites.items()}) for i in range(len(thetas))]


def make_held_out(network: Network, config: NetworkConfig) -> HeldOut:
    """Simulate validation data sets at the paper's n, with long exact-start chains."""
    task, wanted = network.task, config.training.num_held_out
    # A quarter period per move (0.4 x 4 in whitened units) and five moves: nearly independent draws.
    # Half a period would mirror every draw, and a chain of mirrored pairs has a C2ST floor above 0.5.
    long = dataclasses.replace(config.targets, num_draws=NUM_DRAWS, num_moves=5, num_leapfrogs=4, step_size=0.4)
    targets_fn = make_targets(task, long, base="variational")
    num_rows = config.training.fixed_rows or task.paper_num_rows
    # Some simulations are discarded by the task's rule; twice as many as wanted are enough.
    keys = jax.random.split(jax.random.key(VALIDATION_SEED), 2 * wanted + 2)
    simulate = jax.jit(lambda keys: jax.lax.map(lambda key: targets_fn(key, jnp.asarray(num_rows), num_rows), keys))
    targets = jax.device_get(simulate(keys))
    kept = np.flatnonzero(targets.weight > 0)[:wanted]
    targets = jax.tree.map(lambda leaf: leaf[kept], targets)
    references = compared_matrices(task, targets, targets.theta)
    noise = jax.random.normal(jax.random.key(VALIDATION_SEED + 1), (len(kept), NUM_DRAWS, task.dim))
    laplace = jax.jit(lambda datasets: jax.lax.map(lambda dataset: laplace_of(task, dataset)[0], datasets))

    def score_of(affines: Affine) -> float:
        thetas = jax.vmap(lambda affine, z: affine.forward(z))(affines, noise)
        return _mean_c2st(compared_matrices(task, targets, np.asarray(thetas)), references)

    return HeldOut(targets, references, score_of(laplace(targets.dataset)), score_of(targets.affine))


def _mean_c2st(draws: list[np.ndarray], references: list[np.ndarray]) -> float:
    scores = [
        c2st(one, reference, seed=0).accuracy if np.isfinite(one).all() else 1.0
        for one, reference in zip(draws, references, strict=True)
    ]
    return float(np.mean(scores))


def make_scorer(network: Network, held_out: HeldOut, solver: Solver):
    """``params -> mean C2ST`` on the held-out data sets."""
    shape = (len(held_out.references), NUM_DRAWS, network.task.dim)
    noise = jax.random.normal(jax.random.key(VALIDATION_SEED + 2), shape)
    draw = jax.jit(jax.vmap(lambda params, dataset, z: network.draw(params, dataset, z, solver).theta, (None, 0, 0)))

    def score(params: Params) -> float:
        thetas = draw(params, held_out.targets.dataset, noise)
        return _mean_c2st(compared_matrices(network.task, held_out.targets, thetas), held_out.references)

    return score
