"""Held-out quality during training: C2ST of network draws against draws from the posterior.

Data sets come from validation seeds (below 10,000), which tables never use. Where posteriors have several modes, their
reference is that of the tables. Elsewhere reference draws are long and thinned chains started at the generating theta;
for unimodal posteriors that is exact.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from icl_bayes.baselines.gaussians import GaussianInfo, laplace_of, variational_of
from icl_bayes.baselines.importance import supports_importance
from icl_bayes.baselines.reference import ReferenceSampler
from icl_bayes.baselines.smc import supports_smc
from icl_bayes.evaluation.two_sample import c2st
from icl_bayes.flow import Affine, Solver
from icl_bayes.tasks import Task
from icl_bayes.training.config import NetworkConfig, TargetsConfig
from icl_bayes.training.network import Network, Params
from icl_bayes.training.targets import make_targets
from icl_bayes.types import Array, Dataset

NUM_DRAWS = 1000
VALIDATION_SEED = 4321
_PLAIN = TargetsConfig(num_draws=1, num_moves=0)


class HeldOut(NamedTuple):
    """Validation data sets with reference draws.

    Attributes:
        datasets: stacked ``(k, ...)``.
        references: ``k`` matrices of compared sites, ``(NUM_DRAWS, D)``.
        laplace_c2st: mean C2ST of the Laplace approximation on the same data sets.
        gaussian_c2st: the same of the closest Gaussian, the base that a ``variational`` network starts from.
    """

    datasets: Dataset
    references: list[np.ndarray]
    laplace_c2st: float
    gaussian_c2st: float


def compared_matrices(task: Task, datasets: Dataset, thetas: np.ndarray) -> list[np.ndarray]:
    """Constrained, compared sites of draws ``(k, num_draws, dim)``, one matrix per data set."""
    constrain = jax.jit(jax.vmap(jax.vmap(task.constrain, (0, None))))
    sites = jax.device_get(constrain(thetas, datasets))
    return [task.compared_matrix({name: value[i] for name, value in sites.items()}) for i in range(len(thetas))]


def make_held_out(network: Network, config: NetworkConfig) -> HeldOut:
    """Simulate validation data sets at the paper's n, with draws from their posteriors."""
    task = network.task
    has_modes = supports_importance(task) or supports_smc(task)
    datasets, chains = _simulate(task, config, _PLAIN if has_modes else _long_chains(config.targets))
    references = _references(task, datasets) if has_modes else compared_matrices(task, datasets, chains)
    noise = jax.random.normal(jax.random.key(VALIDATION_SEED + 1), (len(references), NUM_DRAWS, task.dim))

    def score_of(approximation: Callable[[Task, Dataset], tuple[Affine, GaussianInfo]]) -> float:
        affines = jax.jit(lambda datasets: jax.lax.map(lambda one: approximation(task, one)[0], datasets))(datasets)
        thetas = jax.vmap(lambda affine, z: affine.forward(z))(affines, noise)
        if task.num_exchangeable:  # one mode, in every order
            keys = jax.random.split(jax.random.key(VALIDATION_SEED + 3), thetas.shape[:2])
            thetas = jax.vmap(jax.vmap(task.relabel))(thetas, _random_orders(task, keys))
        return _mean_c2st(compared_matrices(task, datasets, np.asarray(thetas)), references)

    return HeldOut(datasets, references, score_of(laplace_of), score_of(variational_of))


def _random_orders(task: Task, keys: Array) -> Array:
    return jax.vmap(jax.vmap(lambda key: jax.random.permutation(key, task.num_exchangeable)))(keys)


def _long_chains(targets: TargetsConfig) -> TargetsConfig:
    """A quarter period per move (0.4 x 4 in whitened units) and five moves: nearly independent draws.

    Half a period would mirror every draw, and a chain of mirrored pairs has a C2ST floor above 0.5.
    """
    return dataclasses.replace(
        targets,
        num_draws=NUM_DRAWS,
        num_moves=5,
        num_leapfrogs=4,
        step_size=0.4,
        metric="posterior",
        shrunk_share=0.0,
    )


def _simulate(task: Task, config: NetworkConfig, targets: TargetsConfig) -> tuple[Dataset, np.ndarray]:
    """Stacked data sets ``(k, ...)``, and draws ``(k, num_draws, dim)`` of chains from the generating theta."""
    wanted = config.training.num_held_out
    targets_fn = make_targets(task, targets, base="variational" if targets.num_moves else "standard")
    num_rows = config.training.fixed_rows or task.paper_num_rows
    # Some simulations are discarded by the task's rule; twice as many as wanted are enough.
    keys = jax.random.split(jax.random.key(VALIDATION_SEED), 2 * wanted + 2)
    simulate = jax.jit(lambda keys: jax.lax.map(lambda key: targets_fn(key, jnp.asarray(num_rows), num_rows), keys))
    simulated = jax.device_get(simulate(keys))
    kept = np.flatnonzero(simulated.weight > 0)[:wanted]
    simulated = jax.tree.map(lambda leaf: leaf[kept], simulated)
    return simulated.dataset, simulated.theta


def _references(task: Task, datasets: Dataset) -> list[np.ndarray]:
    """Matrices of reference draws; those of a check that was not passed are better than none here."""
    sampler, matrices = ReferenceSampler(task), []
    for index in range(datasets.row_mask.shape[0]):
        key: Array = jax.random.fold_in(jax.random.key(VALIDATION_SEED), index)
        one = jax.tree.map(lambda leaf, index=index: np.asarray(leaf[index]), datasets)
        matrices.append(task.compared_matrix(sampler.sample(key, one, NUM_DRAWS).sites))
    return matrices


def _mean_c2st(draws: list[np.ndarray], references: list[np.ndarray]) -> float:
    scores = [
        c2st(one, reference, seed=0).accuracy if np.isfinite(one).all() else 1.0
        for one, reference in zip(draws, references, strict=True)
    ]
    return float(np.mean(scores))


def make_scorer(network: Network, held_out: HeldOut, solver: Solver):
    """``params -> mean C2ST`` on the held-out data sets."""
    num, key = len(held_out.references), jax.random.key(VALIDATION_SEED + 2)
    if network.config.model.base == "modes":
        noise = jnp.stack([network.narrow_noise(one, NUM_DRAWS) for one in jax.random.split(key, num)])
    else:
        noise = jax.random.normal(key, (num, NUM_DRAWS, network.task.dim))
    draw = jax.jit(jax.vmap(lambda params, dataset, z: network.draw(params, dataset, z, solver).theta, (None, 0, 0)))

    def score(params: Params) -> float:
        thetas = draw(params, held_out.datasets, noise)
        return _mean_c2st(compared_matrices(network.task, held_out.datasets, thetas), held_out.references)

    return score
