"""Data that the model was not made for: where does a network's posterior stop being the model's posterior?

Every data set is generated under other conditions than those of the scenario; model, prior and reference stay the
scenario's own. The shifts of the paper (appendix N, Tables 30 to 35) change prior constants, under which our networks
were partly trained; ours are harder.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import jax
import numpy as np

from icl_bayes.benchmark.cases import case_of
from icl_bayes.benchmark.suites import Suite, simulate_accepted
from icl_bayes.tasks import Task
from icl_bayes.types import Dataset

ROOT_2 = 2.0**0.5
Change = Callable[[np.random.Generator, Dataset], Dataset]


@dataclass(frozen=True)
class Shift:
    """One way in which data differ from the scenario's.

    Attributes:
        name: short, part of the records' ``split``.
        family: of tasks.
        scenarios: those it is made for.
        factors: prior constants of the generator, relative to the scenario's.
        change: what is done to a simulated data set.
        num_rows: instead of the paper's, if not 0.
        is_published: whether it is one of the paper's.
    """

    name: str
    family: str
    scenarios: tuple[str, ...]
    factors: Mapping[str, float] = field(default_factory=dict)
    change: Change | None = None
    num_rows: int = 0
    is_published: bool = False


def heavy_tailed_noise(generator: np.random.Generator, dataset: Dataset) -> Dataset:
    """Responses of a linear model get further noise of a t law with two degrees of freedom, of half their sd."""
    y = np.asarray(dataset["y"])
    noise = generator.standard_t(2.0, size=y.shape) * 0.5 * y.std()
    return dataset.replace(rows={**dataset.rows, "y": (y + noise).astype(y.dtype)})


def contaminated_rows(generator: np.random.Generator, dataset: Dataset) -> Dataset:
    """One row in ten is wrong: its response (or the whole row, without one) is shifted by five standard deviations."""
    name = "y" if "y" in dataset else "x"
    values = np.array(dataset[name])
    wrong = generator.permutation(len(values))[: max(1, len(values) // 10)]
    values[wrong] += (5.0 * values.std(axis=0) * generator.choice([-1.0, 1.0], size=values[wrong].shape)).astype(
        values.dtype
    )
    return dataset.replace(rows={**dataset.rows, name: values})


def collinear_columns(generator: np.random.Generator, dataset: Dataset) -> Dataset:
    """The last covariate follows the first one up to one percent of its sd; responses stay those of the old one."""
    x = np.array(dataset["x"])
    x[:, -1] = x[:, 0] + 0.01 * x[:, 0].std() * generator.normal(size=len(x))
    return dataset.replace(rows={**dataset.rows, "x": x.astype(dataset["x"].dtype)})


_LINEAR, _REGRESSIONS = ("1", "2", "3", "4", "5"), ("1", "2", "3", "4", "5", "6", "7")
SHIFTS = (
    Shift("B: beta variance x 2", "glm", ("2", "3"), {"beta_scale": ROOT_2}, is_published=True),
    Shift("C: beta variance x 4", "glm", ("2", "3"), {"beta_scale": 2.0}, is_published=True),
    Shift("D: noise x 1.4", "glm", ("2",), {"noise_rate": ROOT_2}, is_published=True),
    Shift("E: noise x 2", "glm", ("2",), {"noise_rate": 2.0}, is_published=True),
    Shift("B: rate x 1.4", "glm", ("5",), {"beta_scale": 1.0 / ROOT_2}, is_published=True),
    Shift("C: rate x 2", "glm", ("5",), {"beta_scale": 0.5}, is_published=True),
    Shift("B: loadings x 1.4", "fa", ("1", "2", "3"), {"loading_scale": ROOT_2}, is_published=True),
    Shift("C: loadings x 2", "fa", ("1", "2", "3"), {"loading_scale": 2.0}, is_published=True),
    Shift("B: concentration x 0.5", "gmm", ("2",), {"concentration": 0.5}, is_published=True),
    Shift("C: concentration x 2", "gmm", ("2",), {"concentration": 2.0}, is_published=True),
    Shift("D: variances x 1.4", "gmm", ("2",), {"sigma2_rate": ROOT_2}, is_published=True),
    Shift("E: variances x 2", "gmm", ("2",), {"sigma2_rate": 2.0}, is_published=True),
    Shift("F: spread x 4/3", "gmm", ("2",), {"mean_spread": 4.0 / 3.0}, is_published=True),
    Shift("G: spread x 5/3", "gmm", ("2",), {"mean_spread": 5.0 / 3.0}, is_published=True),
    Shift("beta sd x 4", "glm", _REGRESSIONS, {"beta_scale": 4.0}),
    Shift("heavy-tailed noise", "glm", _LINEAR, change=heavy_tailed_noise),
    Shift("contaminated rows", "glm", _LINEAR, change=contaminated_rows),
    Shift("collinear columns", "glm", _REGRESSIONS, change=collinear_columns),
    Shift("n = 2000", "glm", _REGRESSIONS, num_rows=2000),
    Shift("loadings x 4", "fa", ("1", "2", "3", "4", "5", "6"), {"loading_scale": 4.0}),
    Shift("contaminated rows", "fa", ("1", "2", "3", "4", "5", "6"), change=contaminated_rows),
    Shift("n = 200", "fa", ("1", "2", "3", "4", "5", "6"), num_rows=200),
    Shift("spread x 4", "gmm", ("1", "2", "3", "4"), {"mean_spread": 4.0}),
    Shift("contaminated rows", "gmm", ("1", "2", "3", "4"), change=contaminated_rows),
)


def shifts_of(family: str, scenario: str) -> tuple[Shift, ...]:
    """Those made for a scenario, the paper's first."""
    return tuple(shift for shift in SHIFTS if shift.family == family and scenario in shift.scenarios)


def shifted_suite(task: Task, shift: Shift, *, num_datasets: int, seed: int) -> Suite:
    """Data sets generated under a shift, to be answered under the task's own prior.

    Raises:
        ValueError: for a prior constant that the task does not have.
    """
    unknown = [name for name in shift.factors if name not in task.constants]
    if unknown:
        raise ValueError(f"Shift {shift.name!r}: {task.name} has no prior constant {unknown}; it has {task.constants}.")
    constants = {name: value * shift.factors.get(name, 1.0) for name, value in task.constants.items()}
    generator_task = dataclasses.replace(task, constants=constants, hyperprior={})
    num_rows = shift.num_rows or task.paper_num_rows
    pairs, rejected = simulate_accepted(generator_task, jax.random.key(seed), num_datasets, num_rows)
    own = {name: np.asarray(value, np.float32) for name, value in task.constants.items()}
    cases = []
    for index, (theta, dataset) in enumerate(pairs):
        if shift.change is not None:
            dataset = shift.change(np.random.default_rng([seed, index]), dataset)
        dataset = task.prepare(dataset.replace(constants=own))
        split = f"shifted ({shift.name})"
        cases.append(case_of(task, dataset, split=split, name=f"{index:03d}", seed=seed, theta=theta))
    return Suite(tuple(cases), {"simulated": num_datasets + rejected, "rejected": rejected, "shift": shift.name})
