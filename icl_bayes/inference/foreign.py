"""Draws that others have made, by ArviZ's files: to be checked and repaired like our own, and to start chains from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from icl_bayes.baselines.programs import ProgramCache
from icl_bayes.flow import Affine
from icl_bayes.inference.posterior import Posterior
from icl_bayes.inference.refinement import refine
from icl_bayes.inference.repairs import Repairs
from icl_bayes.inference.sampler import Densities
from icl_bayes.tasks import Task
from icl_bayes.types import Array, Dataset


def from_inference_data(data: Any, task: Task, dataset: Dataset, *, max_draws: int = 1000) -> Posterior:
    """The posterior in ArviZ's InferenceData, whatever made it: Stan, PyMC, NumPyro, BayesFlow, or this library.

    Its density is not known, so there are no importance weights. :meth:`Posterior.refine` moves the draws until chains
    neither drift nor remember where they began, and says so; :meth:`Posterior.numpyro_start` starts chains from them.

    Args:
        data: InferenceData, or the path of its netCDF file.
        task: the model that the draws are of, with their variables as sites, in the units of the model.
        dataset: that they are conditioned on.
        max_draws: so many are taken, evenly over all chains.

    Raises:
        ValueError: for missing variables, other shapes, or values outside the support.
    """
    from icl_bayes.inference.arviz_bridge import posterior_variables

    variables = posterior_variables(data)
    missing = [name for name in task.sites if name not in variables]
    if missing:
        raise ValueError(
            f"The draws lack {missing}; the task {task.name!r} has the sites {list(task.sites)}, and they have "
            f"{list(variables)}."
        )
    prepared = task.prepare(dataset)
    joined = {name: np.asarray(variables[name], np.float32) for name in task.sites}
    expected = _site_shapes(task, prepared)
    wrong = {name: one.shape[2:] for name, one in joined.items() if one.shape[2:] != expected[name]}
    if wrong:
        raise ValueError(f"The draws have sites of the shapes {wrong}; the task's are {expected}.")
    flat = {name: one.reshape(-1, *one.shape[2:]) for name, one in joined.items()}
    total = len(next(iter(flat.values())))
    chosen = np.unique(np.linspace(0, total - 1, min(max_draws, total)).round().astype(int))
    sites = {name: one[chosen] for name, one in flat.items()}
    source = ForeignSource(task)
    unconstrain = jax.vmap(task.unconstrain, (0, None))
    theta = np.asarray(source.programs.run("unconstrain", unconstrain, sites, prepared).outputs)
    bad = ~np.isfinite(theta).all(axis=1)
    if bad.any():
        raise ValueError(f"{int(bad.sum())} of {len(theta)} draws are not finite or lie outside the model's support.")
    outputs = Repairs(task, source.programs).sites(prepared, theta)
    return Posterior(
        task=task,
        dataset=prepared,
        theta=theta,
        sites={name: outputs[name] for name in task.outputs},
        origin=ForeignOrigin(source),
        info={"network": "none: draws from elsewhere"},
    )


def _site_shapes(task: Task, dataset: Dataset) -> dict[str, tuple[int, ...]]:
    constrained = jax.eval_shape(task.constrain, np.zeros(task.dim, np.float32), dataset)
    return {name: tuple(constrained[name].shape) for name in task.sites}


@dataclass(frozen=True, eq=False)
class ForeignSource:
    """What repairs of such draws need; see :class:`icl_bayes.inference.refinement.Source`."""

    task: Task
    programs: ProgramCache = field(default_factory=ProgramCache, repr=False)

    def padded_length(self, num_rows: int) -> int:
        return num_rows

    def whitening(self, padded: Dataset) -> Affine | None:
        del padded
        return None

    def more(self, rng_key: Array, padded: Dataset, num_draws: int, times: int) -> None:
        del rng_key, padded, num_draws, times


@dataclass(frozen=True, eq=False)
class ForeignOrigin:
    """See :class:`icl_bayes.inference.origin.Origin`."""

    source: ForeignSource

    def densities(self, dataset: Dataset, num_draws: int) -> Densities:
        del dataset, num_draws
        raise ValueError(
            "The density of these draws is not known: they were made elsewhere. Use post.refine(rng_key), which checks "
            "them by moves."
        )

    def novelty(self, dataset: Dataset) -> float:
        del dataset
        return np.nan

    def refine(self, post: Posterior, rng_key: Array, target: float) -> Posterior:
        return refine(self.source, post, rng_key, target)
