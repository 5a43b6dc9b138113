"""Mixtures are scored on draws whose components stand in random orders, whole."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from icl_bayes.benchmark.cases import case_of
from icl_bayes.benchmark.cells import compared_components, compared_draws, metrics_of, symmetrized
from icl_bayes.evaluation.two_sample import METRICS, in_order, two_sample_scores
from icl_bayes.tasks import make_task
from icl_bayes.types import Dataset, SampleResult

TASK = make_task("gmm/2")
NUM = 600


def case(task=TASK):
    data = Dataset(x=np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32))
    return case_of(task, jax.tree.map(np.asarray, task.prepare(data)), split="synthetic", name="000", seed=1)


def one_labelling(seed: int = 1) -> dict[str, np.ndarray]:
    """Draws whose components are told apart by their size: the m-th lies near ``10 m`` in every site."""
    rng = np.random.default_rng(seed)
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
    assert compared_components(case(task)) == ()
    assert metrics_of(case(task), METRICS) == ("c2st", "c2st_auc", "mmd", "w1", "w2")


def test_components_in_order_are_what_they_were() -> None:
    """Draws in random orders, put into the order of their first mean, are those they were made from."""
    sites = one_labelling()
    shuffled = compared_draws(case(), SampleResult(sites, 0.0, 0.0))
    components = compared_components(case())
    assert components[1] == (3, 4, 5, 12, 13, 14)
    plain = np.concatenate([sites["mu"].reshape(NUM, -1), sites["sigma2"].reshape(NUM, -1)], axis=1)
    np.testing.assert_array_equal(in_order(shuffled, components), plain)
    assert metrics_of(case(), METRICS) == METRICS


def test_a_false_component_hides_behind_permutations_and_not_in_order() -> None:
    """One component in three is too wide: a difference that C2ST sees better when components stand in order."""
    reference, draws = one_labelling(), one_labelling(2)
    rng = np.random.default_rng(5)
    draws["mu"] = draws["mu"] + np.array([0.0, 0.0, 3.0])[:, None] * rng.normal(size=(NUM, 3, 3))
    matrices = [compared_draws(case(), SampleResult(one, 0.0, 0.0)) for one in (draws, reference)]
    scores = two_sample_scores(
        *matrices, seed=0, metrics=("c2st", "c2st_ordered"), components=compared_components(case())
    )
    assert scores["c2st_ordered"] > 0.55
    with pytest.raises(ValueError, match="need the columns of exchangeable components"):
        two_sample_scores(*matrices, seed=0, metrics=("c2st_ordered",))
