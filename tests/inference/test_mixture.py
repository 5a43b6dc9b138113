"""Reading a mixture posterior: relabelling, co-assignment and occupied components against what is known."""

from __future__ import annotations

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from icl_bayes.inference.mixture import Mixture, read_mixture, relabelled_order
from icl_bayes.inference.posterior import Posterior
from icl_bayes.tasks import Task, make_task
from icl_bayes.types import Dataset

CENTERS = np.array([[-4.0, 0.0, 0.0], [4.0, 3.0, 0.0], [4.0, -3.0, 1.0]])
SHARES = (14, 8, 4)
NUM_DRAWS = 120


@functools.cache
def gmm() -> Task:
    return make_task("gmm/2")


@functools.cache
def separated() -> tuple[Posterior, np.ndarray]:
    """Draws near the truth of three clusters far apart, each in an order of its own; and the row's true clusters."""
    task, rng = gmm(), np.random.default_rng(0)
    labels = np.repeat(np.arange(3), SHARES)
    x = CENTERS[labels] + 0.3 * rng.normal(size=(len(labels), 3))
    dataset = task.prepare(Dataset(x=x.astype(np.float32)))
    sites = {
        "gamma": np.array(SHARES) * rng.uniform(0.1, 0.12, size=(NUM_DRAWS, 3)),
        "sigma2": rng.uniform(0.08, 0.12, size=(NUM_DRAWS, 3, 3)),
        "mu": CENTERS + 0.1 * rng.normal(size=(NUM_DRAWS, 3, 3)),
    }
    orders = rng.permuted(np.tile(np.arange(3), (NUM_DRAWS, 1)), axis=1)
    sites = {name: values[np.arange(NUM_DRAWS)[:, None], orders].astype(np.float32) for name, values in sites.items()}
    unconstrain = jax.jit(jax.vmap(lambda sites: task.unconstrain(sites, dataset)))
    thetas = np.asarray(unconstrain(sites))
    sites["weights"] = sites["gamma"] / sites["gamma"].sum(axis=1, keepdims=True)
    return Posterior(task, dataset.pad_rows(32), thetas, sites), labels


@functools.cache
def reading() -> Mixture:
    return separated()[0].mixture()


def test_components_far_apart_are_told_apart() -> None:
    mixture, labels = reading(), separated()[1]
    np.testing.assert_allclose(mixture.sites["mu"].mean(axis=0), CENTERS, atol=0.05)
    np.testing.assert_allclose(mixture.sites["mu"].std(axis=0), 0.1, atol=0.04)
    np.testing.assert_array_equal(mixture.clusters(), labels)
    assert mixture.agreement > 0.999
    assert "gamma" not in mixture.sites, "Its total is arbitrary."
    posterior = separated()[0]
    draw, component = 7, 1
    np.testing.assert_array_equal(
        mixture.sites["mu"][draw, component], posterior["mu"][draw, mixture.order[draw, component]]
    )


def test_without_relabelling_components_are_mixed_up() -> None:
    """The control: means over the draws as they come are nowhere near any cluster."""
    raw = separated()[0]["mu"].mean(axis=0)
    assert np.abs(raw - CENTERS).max() > 1.0


def test_co_assignment_and_occupied_components() -> None:
    mixture, labels = reading(), separated()[1]
    np.testing.assert_allclose(mixture.co_assignment(), labels[:, None] == labels[None, :], atol=1e-3)
    assert mixture.num_occupied().to_dict() == {1: 0.0, 2: 0.0, 3: 1.0}
    assert mixture.probabilities.shape == (NUM_DRAWS, sum(SHARES), 3), "Padded rows belong to nothing."


def test_what_needs_no_order_does_not_depend_on_one() -> None:
    posterior, _ = separated()
    order = np.array([2, 0, 1])
    sites = {name: values[:, order] for name, values in posterior.sites.items()}
    thetas = np.asarray(jax.jit(jax.vmap(lambda theta: gmm().relabel(theta, jnp.asarray(order))))(posterior.theta))
    other = read_mixture(Posterior(posterior.task, posterior.dataset, thetas, sites))
    np.testing.assert_allclose(other.co_assignment(), reading().co_assignment(), atol=1e-5)
    np.testing.assert_allclose(other.sites["mu"], reading().sites["mu"], atol=1e-5)


def test_occupied_components_of_rows_that_could_be_anyones() -> None:
    """Two rows, two equal components: one component holds both with probability one half."""
    from icl_bayes.inference.mixture import _occupied

    counts = _occupied(np.full((20_000, 2, 2), 0.5))
    assert abs(np.mean(counts == 1) - 0.5) < 4 * 0.5 / np.sqrt(20_000)


def test_relabelling_minimizes_the_divergence_from_the_mean_allocation() -> None:
    """No draw has an order that agrees better with the mean of all than the one it was given."""
    rng = np.random.default_rng(3)
    base = rng.dirichlet([0.3] * 3, size=15)
    draws = np.stack([rng.dirichlet([0.5] * 3, size=15) * 0.5 + 0.5 * base for _ in range(60)])
    draws = np.stack([draw[:, rng.permutation(3)] for draw in draws])
    order = relabelled_order(draws)
    common = np.take_along_axis(draws, order[:, None, :], axis=2).mean(axis=0)
    costs = np.array(
        [[-np.sum(draw[:, list(one)] * np.log(common)) for one in itertools.permutations(range(3))] for draw in draws]
    )
    own = np.array([-np.sum(draw[:, one] * np.log(common)) for draw, one in zip(draws, order, strict=True)])
    np.testing.assert_allclose(own, costs.min(axis=1), rtol=1e-9)
    assert np.all(np.diff(common.sum(axis=0)) <= 0.0)


def test_summary_and_plot_name_every_component() -> None:
    summary = reading().summary()
    assert list(summary.columns) == ["mean", "sd", "5%", "50%", "95%"]
    assert {"weights[0]", "mu[2, 1]", "sigma2[1, 0]"} <= set(summary.index)
    figure = reading().plot()
    assert [axis.get_title() for axis in figure.axes[:3]] == [
        "clusters, means ± 2 sd",
        "same component",
        "components that hold rows",
    ]


def test_other_models_are_refused() -> None:
    task = make_task("glm/1")
    dataset = task.prepare(Dataset(x=np.random.default_rng(0).normal(size=(9, 5)), y=np.arange(9.0)))
    with pytest.raises(ValueError, match=r"glm/1' is not a mixture"):
        Posterior(task, dataset, np.zeros((2, task.dim)), {}).mixture()
