"""Rivals and references: one signature, ``sample(rng_key, dataset, num_draws) -> SampleResult``."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from functools import partial
from typing import Any, cast

from icl_bayes.baselines.exact import ExactSampler, supports_exact
from icl_bayes.baselines.gaussians import GaussianSampler
from icl_bayes.baselines.map import MapSampler
from icl_bayes.baselines.nuts import NutsSampler
from icl_bayes.baselines.parallel_hmc import STARTS, ParallelHmcSampler
from icl_bayes.baselines.reference import ReferenceSampler, reference_draws
from icl_bayes.baselines.vi import VariationalSampler
from icl_bayes.tasks import Task
from icl_bayes.types import Sampler

_BASELINES: dict[str, Callable[..., Any]] = {
    "exact": ExactSampler,
    "laplace": GaussianSampler,
    "map": MapSampler,
    "nuts": NutsSampler,
    "nuts_jit": partial(NutsSampler, mode="jit", name="nuts_jit"),
    "vi_diagonal": partial(VariationalSampler, guide="diagonal"),
    "vi_full": partial(VariationalSampler, guide="full"),
    "vi_structured": partial(VariationalSampler, guide="structured"),
    "vi_iaf": partial(VariationalSampler, guide="iaf"),
    "vi_fixed_point": partial(GaussianSampler, kind="variational"),
    "importance_moments": partial(GaussianSampler, kind="pilots"),
    "importance_warped": partial(GaussianSampler, kind="warped"),
}
_PARALLEL_HMC = re.compile(rf"parallel_hmc@(\d+)(?::({'|'.join(STARTS)}))?")


def baseline_names() -> list[str]:
    """All names that :func:`make_baseline` takes; ``parallel_hmc@K`` stands for any number K of moves."""
    return [*_BASELINES, "parallel_hmc@K", *(f"parallel_hmc@K:{start}" for start in STARTS)]


def make_baseline(name: str, task: Task, **options: Any) -> Sampler:
    """A baseline for one task, e.g. ``make_baseline("parallel_hmc@5", task, start="prior")``.

    Args:
        name: one of :func:`baseline_names`.
        **options: fields of the baseline's class, such as ``num_warmup`` of ``nuts``.

    Raises:
        ValueError: for an unknown name or option, listing the choices, and for a task that the
            baseline cannot sample.
    """
    match = _PARALLEL_HMC.fullmatch(name)
    if match:
        num_moves, start = match.groups()
        make = partial(ParallelHmcSampler, num_moves=int(num_moves), **({"start": start} if start else {}))
    elif name in _BASELINES:
        make = _BASELINES[name]
    else:
        raise ValueError(f"Unknown baseline {name!r}; choices: {', '.join(baseline_names())} (K moves, e.g. 5).")
    known = _options_of(make)
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise ValueError(f"Baseline {name!r} has no option(s) {unknown}; choices: {known}.")
    return cast(Sampler, make(task, **options))


def _options_of(make: Callable[..., Any]) -> list[str]:
    fixed = set(make.keywords) if isinstance(make, partial) else set()
    kind: Any = make.func if isinstance(make, partial) else make
    return [f.name for f in dataclasses.fields(kind) if f.init and f.name != "task" and f.name not in fixed - {"name"}]


__all__ = [
    "ExactSampler",
    "GaussianSampler",
    "MapSampler",
    "NutsSampler",
    "ParallelHmcSampler",
    "ReferenceSampler",
    "VariationalSampler",
    "baseline_names",
    "make_baseline",
    "reference_draws",
    "supports_exact",
]
