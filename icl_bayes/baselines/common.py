"""What the baselines share: constrained draws, verdicts."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import numpy as np

from icl_bayes.tasks import Task
from icl_bayes.types import Array, Dataset


def log_joint_of(task: Task, dataset: Dataset, theta: Array) -> Array:
    """``task.log_joint`` with ``theta`` last, so that ``partial`` yields a log density."""
    return task.log_joint(theta, dataset)


def curvature_of(task: Task, dataset: Dataset, theta: Array) -> Array:
    """``task.curvature`` with ``theta`` last, the metric of mode searches."""
    return task.curvature(theta, dataset)


def constrain_draws(task: Task, thetas: Array, dataset: Dataset) -> dict[str, Array]:
    """Named sites ``{site: (num_draws, *site_shape)}`` of draws ``(num_draws, dim)``; traceable."""
    return jax.vmap(task.constrain, in_axes=(0, None))(thetas, dataset)


def all_finite(sites: dict[str, np.ndarray]) -> bool:
    """Whether every value of every site is a finite number."""
    return all(bool(np.isfinite(values).all()) for values in sites.values())


def verdict(failures: Sequence[str], warnings: Sequence[str]) -> tuple[str, str]:
    """``(status, message)`` of a result, from what failed and what was imperfect."""
    if failures:
        return "failed", "; ".join([*failures, *warnings])
    if warnings:
        return "warning", "; ".join(warnings)
    return "ok", ""


def check_num_draws(num_draws: int) -> None:
    """Raises ValueError unless ``num_draws`` is a positive integer."""
    if num_draws < 1:
        raise ValueError(f"num_draws must be at least 1; received {num_draws}.")
