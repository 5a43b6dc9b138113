"""Draws without a network: from the Gaussian closest to the posterior, to be checked and repaired like a network's.

Where posteriors are near Gaussian, as in regressions with many rows, nothing better can be had for the time: the draws
are good as they are, or a few moves away from it. Their density is known, so certificates apply to them unchanged.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from icl_bayes.baselines.common import check_num_draws, constrain_draws
from icl_bayes.baselines.gaussians import GaussianInfo, variational_of
from icl_bayes.baselines.programs import ProgramCache
from icl_bayes.compiler import HALF_OPTIMIZED, LESS_OPTIMIZED
from icl_bayes.flow import Affine, log_normal
from icl_bayes.inference.buckets import padded_length
from icl_bayes.inference.checks import check_base
from icl_bayes.inference.posterior import Posterior
from icl_bayes.inference.refinement import refine
from icl_bayes.inference.sampler import AT_ONCE, Densities
from icl_bayes.tasks import Task
from icl_bayes.types import Array, Dataset

MAX_STACKED = 64
"""Data sets of one compiled call; more are served by several calls of the same program."""


class _Drawn(NamedTuple):
    """The Gaussian of a data set, how its search went, and what :func:`partial_draw` made of it."""

    affine: Affine
    info: GaussianInfo
    draws: Any


@dataclass(frozen=True, eq=False)
class GaussianSource:
    """Draws from the closest Gaussian, for one task.

    Attributes:
        task: without nuisance sites; its posteriors should not have modes far apart.
        programs: compiled programs, of draws and of repairs.
        known: the Gaussian of the data set that is being repaired.
    """

    task: Task
    programs: ProgramCache = field(default_factory=lambda: ProgramCache(LESS_OPTIMIZED), repr=False)
    known: Affine | None = field(default=None, repr=False)

    def sample(self, rng_key: Array, dataset: Dataset, num_draws: int = 1000) -> Posterior:
        """Draws with their densities, unchecked until :meth:`Posterior.certificate` or :meth:`Posterior.refine`.

        Raises:
            ValueError: for data that the model cannot be conditioned on.
        """
        check_num_draws(num_draws)
        prepared = self.task.prepare(dataset)
        padded = prepared.pad_rows(self.padded_length(prepared.padded_rows))
        started = time.perf_counter()
        affine, info = self._gaussian(padded)
        draws = self.programs.run(("draw", num_draws), partial_draw(self.task, num_draws), rng_key, padded, affine)
        return self._posterior(prepared, _Drawn(affine, info, draws.outputs), time.perf_counter() - started)

    def sample_batch(
        self, rng_keys: Sequence[Array], datasets: Sequence[Dataset], num_draws: int = 1000
    ) -> list[Posterior | ValueError]:
        """Draws for several data sets; for those that are padded to the same length by one compiled program.

        Returns:
            For each data set what :meth:`sample` returns with its key, to rounding, or the error that it raises.
        """
        check_num_draws(num_draws)
        found: dict[int, Posterior | ValueError] = {}
        prepared: dict[int, Dataset] = {}
        for index, dataset in enumerate(datasets):
            try:
                prepared[index] = self.task.prepare(dataset)
            except ValueError as error:
                found[index] = error
        lengths = {index: self.padded_length(one.padded_rows) for index, one in prepared.items()}
        for length in dict.fromkeys(lengths.values()):
            alike = [index for index, its_length in lengths.items() if its_length == length]
            size = min(MAX_STACKED, 1 << (len(alike) - 1).bit_length())  # few sizes, so that few programs are compiled
            for first in range(0, len(alike), size):
                chunk = alike[first : first + size]
                filled = chunk + chunk[-1:] * (size - len(chunk))
                padded = [prepared[index].pad_rows(length) for index in filled]
                stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *padded)
                keys = jnp.stack([rng_keys[index] for index in filled])
                started = time.perf_counter()
                drawn = self.programs.run(("batch", num_draws), partial_batch(self.task, num_draws), keys, stacked)
                seconds = (time.perf_counter() - started) / len(chunk)
                for place, index in enumerate(chunk):
                    own = jax.tree.map(lambda leaf, place=place: leaf[place], drawn.outputs)
                    try:
                        found[index] = self._posterior(prepared[index], own, seconds)
                    except ValueError as error:
                        found[index] = error
        return [found[index] for index in range(len(datasets))]

    def _posterior(self, prepared: Dataset, drawn: _Drawn, seconds: float) -> Posterior:
        affine, info, (theta, sites, log_prob, log_weight) = drawn
        notes = check_base(float(info.decrement), float(info.rival), warn=False)
        if not np.isfinite(theta).all():
            raise ValueError(
                f"The search for the Gaussian closest to the posterior of {self.task.name} ended in values that are "
                "not finite. Look at the data: columns of very different scale, or responses beyond the range of "
                "single precision."
            )
        return Posterior(
            task=self.task,
            dataset=prepared,
            theta=theta,
            sites=sites,
            notes=tuple(notes),
            densities=Densities(log_prob, log_weight),
            origin=GaussianOrigin(self, affine),
            info={
                "network": "none: closest Gaussian",
                "seconds": seconds,
                "base_decrement": float(info.decrement),
                "rival_mass": float(np.exp(info.rival)),
            },
        )

    def padded_length(self, num_rows: int) -> int:
        """The length to which rows are padded."""
        return num_rows if self.task.has_fixed_rows else padded_length(num_rows)

    def whitening(self, padded: Dataset) -> Affine | None:
        """The Gaussian itself."""
        return self._gaussian(padded)[0] if self.known is None else self.known

    def more(self, rng_key: Array, padded: Dataset, num_draws: int, times: int) -> tuple[np.ndarray, np.ndarray]:
        """Further draws ``(times * num_draws, dim)`` with their log weights, by the program that made the first."""
        affine, draw = self.whitening(padded), partial_draw(self.task, num_draws)
        keys = [jax.random.fold_in(rng_key, index) for index in range(times)]
        found = [self.programs.run(("draw", num_draws), draw, key, padded, affine).outputs for key in keys]
        return np.concatenate([part[0] for part in found]), np.concatenate([part[3] for part in found])

    def _gaussian(self, padded: Dataset) -> Any:
        found = self.programs.run(
            "gaussian", lambda dataset: variational_of(self.task, dataset), padded, options=HALF_OPTIMIZED
        )
        return found.outputs


def partial_draw(task: Task, num_draws: int) -> Any:
    """``(rng_key, dataset, affine) -> theta, sites, log density in the units of the model, log weight``."""

    def draw(rng_key: Array, dataset: Dataset, affine: Affine) -> Any:
        keys = jax.vmap(lambda index: jax.random.fold_in(rng_key, index))(jnp.arange(num_draws))
        noise = jax.vmap(lambda key: jax.random.normal(key, (task.dim,)))(keys)
        theta = affine.forward(noise)
        log_prob = jax.vmap(log_normal)(noise) - affine.log_det
        log_joint = jax.vmap(task.log_joint, (0, None))(theta, dataset)
        log_volume = jax.vmap(task.log_volume, (0, None))(theta, dataset)
        return theta, constrain_draws(task, theta, dataset), log_prob - log_volume, log_joint - log_prob

    return draw


def partial_batch(task: Task, num_draws: int) -> Any:
    """``(rng_keys (k,), datasets stacked (k, ...)) -> _Drawn``, stacked."""

    def one(argument: tuple[Array, Dataset]) -> _Drawn:
        rng_key, dataset = argument
        affine, info = variational_of(task, dataset)
        return _Drawn(affine, info, partial_draw(task, num_draws)(rng_key, dataset, affine))

    return lambda rng_keys, datasets: jax.lax.map(one, (rng_keys, datasets), batch_size=AT_ONCE)


@dataclass(frozen=True, eq=False)
class GaussianOrigin:
    """Where the draws of a :class:`GaussianSource` come from; see :class:`icl_bayes.inference.origin.NetworkOrigin`."""

    source: GaussianSource
    affine: Affine

    def densities(self, dataset: Dataset, num_draws: int) -> Densities:
        """Draws of this source come with densities."""
        raise ValueError("These draws have lost their densities; draw again.")

    def novelty(self, dataset: Dataset) -> float:
        """Nothing was trained, so nothing is new."""
        del dataset
        return np.nan

    def refine(self, post: Posterior, rng_key: Array, target: float) -> Posterior:
        """See :meth:`icl_bayes.Posterior.refine`."""
        refined = refine(replace(self.source, known=self.affine), post, rng_key, target)
        return replace(refined, info={**refined.info, "engine": engine_of(refined)})


def engine_of(post: Posterior, start: str = "closest Gaussian") -> str:
    """What the draws were made by, in words.

    Args:
        start: what made them before they were repaired.
    """
    verdict = post.certificate().verdict
    path = [step.name for step in post.certificate().path]
    if verdict == "good":
        return start
    if path and path[-1] == "reference":
        return "NUTS"
    return f"{start}, reweighted" if verdict == "resampled" else f"parallel HMC from the {start}"
