"""What a posterior is repaired with: moves of its draws, resampling, an independent probe, a reference.

Each is one compiled program per shape, kept by the network. None decides anything;
:mod:`icl_bayes.inference.refinement` does.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from icl_bayes.baselines.common import constrain_draws
from icl_bayes.baselines.mode_moves import mode_moves
from icl_bayes.baselines.moves import NUM_PILOTS, MoveInfo, polish
from icl_bayes.baselines.programs import ProgramCache
from icl_bayes.baselines.smc import SMCSettings, label_free_features, tempered_run
from icl_bayes.evaluation.stationarity import smooth_features
from icl_bayes.flow import Affine, GaussianModes
from icl_bayes.tasks import Task
from icl_bayes.types import Array, Dataset

NUM_PROBES = 256
"""Particles of the independent probe."""
_PROBE = SMCSettings(target_ess=0.6, num_moves=4, num_leapfrogs=6, num_final_moves=8)
_MIN_SPREAD = 1e-6


class Moved(NamedTuple):
    """Draws before, between and after two stretches of moves.

    Attributes:
        thetas: ``(3, num, dim)``.
        log_joint: ``(3, num)``.
        sites: constrained, of the last.
        acceptance: ``()``.
    """

    thetas: np.ndarray
    log_joint: np.ndarray
    sites: dict[str, np.ndarray]
    acceptance: float


@dataclass(frozen=True, eq=False)
class Repairs:
    """The repairs of posteriors of one task.

    Attributes:
        task: without nuisance sites.
        programs: where compiled programs are kept.
    """

    task: Task
    programs: ProgramCache

    def move(
        self, rng_key: Array, dataset: Dataset, thetas: np.ndarray, num_moves: int, base: Affine | GaussianModes | None
    ) -> Moved:
        """Twice ``num_moves`` HMC moves from every draw ``(num, dim)``, which leave the posterior invariant.

        Either half of the draws is moved with step size and scales found on the other one, so that no draw has a say in
        how it moves.

        Args:
            base: whitening, or modes, found without the draws; the moments of the other half if ``None``.
        """
        num = len(thetas)
        padded = np.concatenate([thetas, thetas[: num % 2]])  # halves of one size; what is doubled is dropped

        def moved(rng_key: Array, thetas: Array, num_moves: Array, base: Any, dataset: Dataset) -> Any:
            stretches, info = _crosswise(rng_key, self.task, dataset, base, thetas, num_moves)
            all_thetas = jnp.concatenate([thetas[None], stretches])
            log_joint = jax.vmap(jax.vmap(self.task.log_joint, (0, None)), (0, None))(all_thetas, dataset)
            return all_thetas, log_joint, constrain_draws(self.task, stretches[-1], dataset), info

        call = self.programs.run("move", moved, rng_key, padded, num_moves, base, dataset)
        all_thetas, log_joint, sites, info = jax.tree.map(np.asarray, call.outputs)
        sites = {name: value[:num] for name, value in sites.items()}
        return Moved(all_thetas[:, :num], log_joint[:, :num], sites, float(np.mean(info.acceptance)))

    def log_joint(self, dataset: Dataset, thetas: np.ndarray) -> np.ndarray:
        """``(num,)``."""
        log_joint = jax.vmap(self.task.log_joint, (0, None))
        return np.asarray(self.programs.run("log_joint", log_joint, thetas, dataset).outputs)

    def sites(self, dataset: Dataset, thetas: np.ndarray) -> dict[str, np.ndarray]:
        """Constrained values of draws ``(num, dim)``."""
        constrain = partial(constrain_draws, self.task)
        return jax.tree.map(np.asarray, self.programs.run("sites", constrain, thetas, dataset).outputs)

    def probe(self, rng_key: Array, dataset: Dataset) -> tuple[np.ndarray, bool]:
        """Rough draws ``(NUM_PROBES, dim)`` that owe nothing to the network, and whether the run came to its end.

        One run of tempered SMC from the prior.
        """

        def run(rng_key: Array, dataset: Dataset) -> tuple[Array, Array]:
            found = tempered_run(self.task, NUM_PROBES, _PROBE, rng_key, dataset)
            return found.thetas, found.reached

        thetas, reached = self.programs.run("probe", run, rng_key, dataset).outputs
        return np.asarray(thetas), bool(reached)

    @cached_property
    def has_labels(self) -> bool:
        return self.task.num_exchangeable > 0

    def features(self, thetas: np.ndarray, log_joint: np.ndarray, *, like: np.ndarray) -> np.ndarray:
        """``(num, k)`` functions whose means tell laws apart; of a mixture, none that depends on labels.

        Args:
            like: draws ``(num_like, dim)`` that set the scales.
        """
        if not self.has_labels:
            return smooth_features(thetas, log_joint, like=like)
        blocks = {
            name: thetas[:, site.start : site.start + site.size].reshape(len(thetas), self.task.num_exchangeable, -1)
            for name, site in self.task.sites.items()
        }
        return np.column_stack([label_free_features(self.task, blocks), log_joint])


def _crosswise(
    rng_key: Array,
    task: Task,
    dataset: Dataset,
    base: Affine | GaussianModes | None,
    thetas: Array,
    num_moves: Array,
) -> tuple[Array, MoveInfo]:
    """Draws after either stretch, ``(2, num, dim)``, halves tuned on one another."""
    halves = thetas.reshape(2, -1, task.dim)
    keys = jax.random.split(rng_key, 2)

    def half(rng_key: Array, starts: Array, others: Array) -> tuple[Array, MoveInfo]:
        tune_key, move_key = jax.random.split(rng_key)
        move_keys, pilots = jax.random.split(move_key, len(starts)), others[:NUM_PILOTS]
        if isinstance(base, GaussianModes):
            return mode_moves(tune_key, move_keys, task, dataset, base, starts, pilots, num_moves, 2)
        whitening = moments_affine(others) if base is None else base
        return polish(tune_key, move_keys, task, dataset, whitening, starts, pilots, num_moves, 2)

    moved, info = jax.vmap(half, out_axes=(1, 0))(keys, halves, jnp.flip(halves, axis=0))
    return moved.reshape(2, -1, task.dim), info


def moments_affine(thetas: Array) -> Affine:
    """The Gaussian with the moments of draws ``(num, dim)``, whitened by the symmetric root."""
    covariance = jnp.atleast_2d(jnp.cov(thetas.T))
    values, vectors = jnp.linalg.eigh(covariance)
    roots = jnp.sqrt(jnp.maximum(values, _MIN_SPREAD * jnp.max(values)))
    log_det = jnp.sum(jnp.log(roots))
    return Affine(jnp.mean(thetas, axis=0), (vectors * roots) @ vectors.T, (vectors / roots) @ vectors.T, log_det)


def resample(generator: np.random.Generator, log_weights: np.ndarray, num: int) -> np.ndarray:
    """Indices ``(num,)`` of draws by their normalized log weights, systematically, in random order."""
    edges = np.cumsum(np.exp(log_weights))
    points = (np.arange(num) + generator.uniform()) / num * edges[-1]
    return generator.permutation(np.minimum(np.searchsorted(edges, points), len(log_weights) - 1))
