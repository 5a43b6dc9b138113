"""A posterior that is known (a correlated Gaussian), methods that hit or miss it, and rows made by hand."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import jax
import numpy as np

from icl_bayes.benchmark.cases import Case
from icl_bayes.benchmark.records import PROTOCOL, Record
from icl_bayes.types import Dataset, SampleResult

FACTOR = np.array([[1.0, 0.0], [0.6, 0.8]])
"""Root of the covariance of every fake posterior; its mean is the first row of x."""


class FakeTask:
    name = "glm/5"

    def compared_matrix(self, sites):
        return np.asarray(sites["beta"], np.float64)


def make_case(index: int = 0, scenario: str = "5", split: str = "synthetic", seed: int = 10_000) -> Case:
    rng = np.random.default_rng(index)
    dataset = Dataset(x=rng.normal(size=(8, 2)).astype(np.float32), y=np.zeros(8, np.float32))
    return Case("glm", scenario, split, str(index), seed, dataset, 8, 2, FakeTask())


def posterior_draws(rng: np.random.Generator, dataset: Dataset, num_draws: int) -> np.ndarray:
    return np.asarray(dataset["x"])[0] + rng.normal(size=(num_draws, 2)) @ FACTOR.T


@dataclass
class FakeReference:
    """Exact draws; the calls are counted."""

    num_draws: int
    fails_for: tuple[str, ...] = ()
    calls: list[str] = field(default_factory=list)
    name: str = "exact"

    def __call__(self, case: Case) -> SampleResult:
        self.calls.append(case.identity)
        if case.name in self.fails_for:
            return SampleResult({}, 0.0, 0.1, "failed", "R-hat 1.3 exceeds 1.01")
        rng = np.random.default_rng(case.random_seed + 1)
        sites = {"beta": posterior_draws(rng, case.dataset, self.num_draws), "sigma2": np.ones(self.num_draws)}
        return SampleResult(sites, 0.5, 0.25, health={"ess": float(self.num_draws)})


@dataclass
class FakeSampler:
    """Draws from the posterior shifted by ``shift`` standard deviations; fails where told to."""

    name: str
    variant: str = ""
    shift: float = 0.0
    fails_for: tuple[str, ...] = ()
    num_calls: int = 0

    def sample(self, rng_key, dataset, num_draws) -> SampleResult:
        self.num_calls += 1
        if self.fails_for:
            raise FloatingPointError("the step size\nbecame zero")
        rng = np.random.default_rng(int(jax.random.bits(rng_key)))
        draws = posterior_draws(rng, dataset, num_draws) + self.shift
        health = {"ess": 0.95 * num_draws, "khat": 0.2}
        return SampleResult({"beta": draws.astype(np.float32)}, 0.3, 0.004, health=health)


def make_record(**changes) -> Record:
    values = {
        "protocol": PROTOCOL,
        "family": "glm",
        "scenario": "5",
        "split": "synthetic",
        "dataset": "0",
        "n": 50,
        "p": 5,
        "method": "icl",
        "variant": "informed",
        "checkpoint": "glm-5",
        "solver": "midpoint steps=4",
        "num_draws": 1000,
        "metric": "c2st",
        "value": 0.512,
        "floor": 0.501,
        "seconds_compile": 1.5,
        "seconds_run": 0.012,
        "ess": math.nan,
        "status": "ok",
        "message": "",
        "verdict": "",
        "khat": math.nan,
        "hardware": "some CPU (2 cores)",
        "python": "3.11.7",
        "jax": "0.10.2",
        "seed": 10_000,
        "commit": "abc",
    }
    assert set(changes) <= set(values)
    return Record(**{**values, **changes})
