"""Draws without a network: from the Gaussian closest to the posterior, to be checked and repaired like a network's.

Where posteriors are near Gaussian, as in regressions with many rows, nothing better can be had for the time: the draws
are good as they are, or a few moves away from it. Their density is known, so certificates apply to them unchanged.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from icl_bayes.baselines.common import constrain_draws
from icl_bayes.baselines.gaussians import variational_of
from icl_bayes.baselines.programs import ProgramCache
from icl_bayes.flow import Affine, log_normal
from icl_bayes.inference.buckets import padded_length
from icl_bayes.inference.checks import check_base
from icl_bayes.inference.posterior import Posterior
from icl_bayes.inference.refinement import refine
from icl_bayes.inference.sampler import Densities
from icl_bayes.tasks import Task
from icl_bayes.types import Array, Dataset


@dataclass(frozen=True, eq=False)
class GaussianSource:
    """Draws from the closest Gaussian, for one task.

    Attributes:
        task: without nuisance sites; its posteriors should not have modes far apart.
        programs: compiled programs, of draws and of repairs.
        known: the Gaussian of the data set that is being repaired.
    """

    task: Task
    programs: ProgramCache = field(default_factory=ProgramCache, repr=False)
    known: Affine | None = field(default=None, repr=False)

    def sample(self, rng_key: Array, dataset: Dataset, num_draws: int = 1000) -> Posterior:
        """Draws with their densities, unchecked until :meth:`Posterior.certificate` or :meth:`Posterior.refine`.

        Raises:
            ValueError: for data that the model cannot be conditioned on.
        """
        if num_draws < 1:
            raise ValueError(f"num_draws must be at least 1; received {num_draws}.")
        prepared = self.task.prepare(dataset)
        padded = prepared.pad_rows(self.padded_length(prepared.padded_rows))
        started = time.perf_counter()
        affine, info = self._gaussian(padded)
        draws = self.programs.run(("draw", num_draws), partial_draw(self.task, num_draws), rng_key, padded, affine)
        theta, sites, log_prob, log_weight = draws.outputs
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
                "seconds": time.perf_counter() - started,
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

    def more(self, rng_key: Array, padded: Dataset, num_draws: int) -> tuple[np.ndarray, np.ndarray]:
        """Further draws ``(num_draws, dim)`` with their log weights ``(num_draws,)``."""
        draw = partial_draw(self.task, num_draws)
        found = self.programs.run(("draw", num_draws), draw, rng_key, padded, self.whitening(padded))
        return np.asarray(found.outputs[0]), np.asarray(found.outputs[3])

    def _gaussian(self, padded: Dataset) -> Any:
        return self.programs.run("gaussian", lambda dataset: variational_of(self.task, dataset), padded).outputs


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
