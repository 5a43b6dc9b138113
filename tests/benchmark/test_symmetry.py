"""Mixtures are scored on draws whose components stand in random orders, whole."""

from __future__ import annotations

import jax
import numpy as np

from icl_bayes.benchmark.cases import case_of
from icl_bayes.benchmark.cells import compared_draws, symmetrized
from icl_bayes.tasks import make_task
from icl_bayes.types import Dataset, SampleResult

TASK = make_task("gmm/2")
NUM = 600


def case(task=TASK):
    data = Dataset(x=np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32))
    return case_of(task, jax.tree.map(np.asarray, task.prepare(data)), split="synthetic", name="000", seed=1)


def one_labelling() -> dict[str, np.ndarray]:
    """Draws whose components are told apart by their size: the m-th lies near ``10 m`` in every site."""
    rng = np.random.default_rng(1)
    offsets = 10.0 * np.arange(1, 4)
    return {
        "gamma": offsets + rng.normal(size=(NUM, 3)),
        "sigma2": offsets[:, None] + rng.uniform(size=(NUM, 3, 3)),
        "mu": offsets[:, None] + rng.normal(size=(NUM, 3, 3)),
    }


def test_components_stay_whole_and_every_order_occurs_equally_often() -> None:
    sites = symmetrized(case(), one_labelling())
    order = np.argsort(sites["gamma"], axis=1)
    for values in (sites["sigma2"], sites["mu"]):
        np.testing.assert_array_equal(np.argsort(values.mean(axis=2), axis=1), order)
    _, counts = np.unique(order, axis=0, return_counts=True)
    assert len(counts) == 6
    assert np.abs(counts - NUM / 6).max() < 4.5 * (NUM * 5 / 36) ** 0.5


def test_scores_see_draws_in_random_orders() -> None:
    sites = one_labelling()
    matrix = compared_draws(case(), SampleResult(sites, 0.0, 0.0))
    assert matrix.shape == (NUM, 18)
    assert matrix[:, 0].std() > 5.0 > sites["mu"][:, 0, 0].std()
    np.testing.assert_array_equal(matrix, compared_draws(case(), SampleResult(sites, 0.0, 0.0)))


def test_other_models_are_left_alone() -> None:
    task = make_task("fa/1")
    sites = {"z": np.random.default_rng(0).normal(size=(5, 3))}
    assert symmetrized(case(task), sites) is sites
