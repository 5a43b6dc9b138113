"""What a posterior says of rows: their log likelihoods, replicated and new responses, LOO and WAIC."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from icl_bayes.tasks import Task
from icl_bayes.tasks.pointwise import require_independent_rows, row_log_likelihood, simulate_rows
from icl_bayes.types import Array, Dataset

if TYPE_CHECKING:
    from icl_bayes.inference.posterior import Posterior

AT_ONCE = 128
"""Draws per compiled call."""
MAX_PARETO_K = 0.7


@dataclass(frozen=True)
class PredictiveFit:
    """Expected log predictive density of new rows, estimated from those at hand.

    Attributes:
        method: ``loo`` (Pareto-smoothed importance sampling; Vehtari, Gelman and Gabry, 2017) or ``waic`` (Watanabe,
            2010).
        elpd, error: the sum over rows, in nats, and its standard error.
        num_parameters: effective number of parameters.
        pointwise: ``(n,)``.
        pareto_k: ``(n,)``, of LOO; above 0.7 a row's part can't be relied on. Empty for WAIC.
    """

    method: str
    elpd: float
    error: float
    num_parameters: float
    pointwise: np.ndarray
    pareto_k: np.ndarray

    def __str__(self) -> str:
        return f"{self.method}: elpd {self.elpd:.2f} ± {self.error:.2f}, {self.num_parameters:.1f} effective parameters"


@lru_cache(maxsize=16)
def _programs(task: Task) -> tuple[Any, Any]:
    def densities(thetas: Array, dataset: Dataset) -> tuple[Array, Array]:
        one = lambda theta: (row_log_likelihood(task, theta, dataset), task.log_likelihood(theta, dataset))  # noqa: E731
        return jax.vmap(one)(thetas)

    def responses(rng_key: Array, indices: Array, thetas: Array, dataset: Dataset) -> dict[str, Array]:
        keys = jax.vmap(lambda index: jax.random.fold_in(rng_key, index))(indices)
        return jax.vmap(lambda key, theta: simulate_rows(task, key, theta, dataset))(keys, thetas)

    return jax.jit(densities), jax.jit(responses)


def _chunks(num: int) -> list[np.ndarray]:
    """Indices of draws, all chunks of one size: the last draw stands for those that are missing."""
    size = min(num, AT_ONCE)
    return [np.minimum(np.arange(first, first + size), num - 1) for first in range(0, num, size)]


def log_likelihood(post: Posterior) -> np.ndarray:
    """See :meth:`icl_bayes.Posterior.log_likelihood`."""
    program, _ = _programs(post.task)
    parts = [jax.device_get(program(post.theta[chunk], post.dataset)) for chunk in _chunks(post.num_draws)]
    rows = np.concatenate([one[0] for one in parts])[: post.num_draws].astype(np.float64)
    whole = np.concatenate([one[1] for one in parts])[: post.num_draws].astype(np.float64)
    require_independent_rows(post.task, post.dataset, rows, whole)
    return rows[:, np.asarray(post.dataset.row_mask, bool)]


def predict(post: Posterior, rng_key: Array, dataset: Dataset | None = None) -> dict[str, np.ndarray]:
    """See :meth:`icl_bayes.Posterior.predict`."""
    task = post.task
    where = post.dataset if dataset is None else _new_rows(task, post.dataset, dataset)
    _, program = _programs(task)
    parts = [jax.device_get(program(rng_key, chunk, post.theta[chunk], where)) for chunk in _chunks(post.num_draws)]
    mask = np.asarray(where.row_mask, bool)
    found = {name: np.concatenate([one[name] for one in parts])[: post.num_draws, mask] for name in task.responses}
    # Positive responses are kept as logarithms.
    return {
        name.removeprefix("log_"): np.exp(value) if name.startswith("log_") else value for name, value in found.items()
    }


def _new_rows(task: Task, known: Dataset, dataset: Dataset) -> Dataset:
    """Covariates to predict at, checked against those of the data, with the data's prior constants."""
    inputs = [name for name in known.rows if name not in task.responses]
    if not inputs:
        raise ValueError(f"The model {task.name} has no covariates: predict(rng_key) replicates its own rows.")
    rows = {}
    for name in inputs:
        if name not in dataset:
            raise ValueError(f"Prediction needs rows {inputs}; received {sorted(dataset.rows)}.")
        value, like = np.asarray(dataset[name]), np.asarray(known[name])
        if value.shape[1:] != like.shape[1:] or not len(value):
            expected = ("m", *like.shape[1:])
            raise ValueError(f"Rows {name!r} to predict at must have shape {expected}; received {value.shape}.")
        if not np.isfinite(value).all():
            raise ValueError(f"Rows {name!r} to predict at hold values that are missing or not finite.")
        rows[name] = value.astype(like.dtype)
    if task.row_range is not None:  # labels index arrays, where one that does not exist would be taken for another
        num = len(next(iter(rows.values())))
        responses = {name: np.repeat(np.asarray(known[name])[:1], num, axis=0) for name in task.responses}
        task.prepare(
            Dataset(row_mask=np.asarray(dataset.row_mask, bool), constants=known.constants, **rows, **responses)
        )
    return Dataset(row_mask=np.asarray(dataset.row_mask, bool), constants=known.constants, **rows)


def loo(post: Posterior) -> PredictiveFit:
    """See :meth:`icl_bayes.Posterior.loo`."""
    return leave_one_out(log_likelihood(post))


def leave_one_out(values: np.ndarray) -> PredictiveFit:
    """LOO from pointwise log likelihoods ``(num_draws, n)``, with a warning where it can't be relied on."""
    from icl_bayes.inference.arviz_bridge import psis_loo

    fit = PredictiveFit("loo", *psis_loo(values))
    bad = int(np.sum(fit.pareto_k > MAX_PARETO_K))
    if bad:
        warnings.warn(
            f"LOO: Pareto k is above {MAX_PARETO_K} for {bad} of {len(fit.pareto_k)} rows, the largest "
            f"{fit.pareto_k.max():.2f}; their parts, and elpd, can't be relied on.",
            UserWarning,
            stacklevel=4,
        )
    return fit


def waic(post: Posterior) -> PredictiveFit:
    """See :meth:`icl_bayes.Posterior.waic`."""
    return widely_applicable(log_likelihood(post))


def widely_applicable(values: np.ndarray) -> PredictiveFit:
    """WAIC from pointwise log likelihoods ``(num_draws, n)`` (Gelman, Hwang and Vehtari, 2014, with variances)."""
    from scipy.special import logsumexp

    density = logsumexp(values, axis=0) - np.log(len(values))
    penalty = values.var(axis=0, ddof=1)
    pointwise = density - penalty
    error = float(np.sqrt(len(pointwise) * pointwise.var()))
    return PredictiveFit("waic", float(pointwise.sum()), error, float(penalty.sum()), pointwise, np.zeros(0))
