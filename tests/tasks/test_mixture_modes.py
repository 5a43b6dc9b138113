"""What EM finds in the rows: clusters that are there, whatever the order of the rows and their padding."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from icl_bayes.nets import ModelConfig
from icl_bayes.tasks import make_task
from icl_bayes.tasks.mixture_denoiser import make_log_likelihood
from icl_bayes.tasks.mixture_modes import starting_means
from icl_bayes.training import FlowConfig, NetworkConfig, TargetsConfig, TaskConfig, build_network
from icl_bayes.training.features import features_of
from icl_bayes.types import Dataset

CENTERS = np.asarray([[-3.0, 0.0, 1.0], [2.0, 3.0, -1.0], [1.0, -3.0, 0.0]])
SIZES = (8, 12, 20)


@pytest.fixture(scope="module")
def task():
    return make_task("gmm/2")


@pytest.fixture(scope="module")
def summaries(task):
    return jax.jit(task.summaries)


@pytest.fixture(scope="module")
def clusters(task) -> Dataset:
    noise = np.random.default_rng(0).normal(size=(sum(SIZES), 3))
    return task.prepare(Dataset(x=np.repeat(CENTERS, SIZES, axis=0) + 0.4 * noise))


def test_clusters_far_apart_are_found_with_their_sizes(task, summaries, clusters: Dataset) -> None:
    tokens = np.asarray(summaries(clusters)).reshape(3, 3, 2 * 3 + 5)
    height = tokens[:, 0, -1]
    assert height.max() == 0.0
    best = tokens[np.argmax(height)]
    sites = jax.jit(task.constrain)(
        jnp.concatenate([best[:, 0], best[:, 1:4].ravel(), best[:, 4:7].ravel()]), jax.tree.map(jnp.asarray, clusters)
    )
    order = np.argsort(best[:, 7])
    np.testing.assert_allclose(np.asarray(sites["mu"])[order], CENTERS, atol=0.4)
    np.testing.assert_allclose(best[order, 7] * sum(SIZES), SIZES, atol=0.1)
    np.testing.assert_allclose(best[:, 9], 1.0, atol=1e-3)  # no row is in doubt


def test_order_of_rows_and_padding_do_not_matter(summaries, clusters: Dataset) -> None:
    """Solutions may come in any order of their components, since the encoder's tokens have none either."""
    order = np.random.default_rng(1).permutation(sum(SIZES))
    rows = {"plain": clusters, "permuted": clusters.replace(rows={"x": clusters["x"][order]})}
    rows["padded"] = clusters.pad_rows(sum(SIZES) + 9)
    found = {name: np.asarray(summaries(dataset)) for name, dataset in rows.items()}
    np.testing.assert_allclose(found["padded"], found["plain"], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found["permuted"], found["plain"], rtol=1e-3, atol=1e-3)


def test_starts_differ_from_one_another(clusters: Dataset) -> None:
    starts = np.asarray(starting_means(clusters, 3))
    assert starts.shape == (3, 3, 3)
    gaps = [np.abs(one - other).max() for i, one in enumerate(starts) for other in starts[:i]]
    assert min(gaps) > 0.1


def test_log_likelihood_is_that_of_the_program_up_to_a_constant(task, clusters: Dataset) -> None:
    thetas = jax.random.normal(jax.random.key(0), (20, task.dim))
    padded = clusters.pad_rows(sum(SIZES) + 5)
    short = jax.jit(jax.vmap(make_log_likelihood(3, 3), (0, None)))(thetas, padded)
    whole = jax.jit(jax.vmap(task.log_likelihood, (0, None)))(thetas, padded)
    gap = np.asarray(short - whole)
    np.testing.assert_allclose(gap, gap[0], atol=1e-2)
    assert np.ptp(np.asarray(whole)) > 10.0


def test_the_encoder_reads_them_as_tokens_of_their_own(task, clusters: Dataset) -> None:
    plain, more = (features_of(ModelConfig(summaries=flag), task, clusters) for flag in (False, True))
    num, width = plain.rows.shape
    assert more.rows.shape == (num + 9, width + 2 * 3 + 5 + 1)
    np.testing.assert_array_equal(more.rows[:num, :width], plain.rows)
    assert not np.asarray(more.rows[:num, width:]).any()
    assert not np.asarray(more.rows[num:, :width]).any()
    np.testing.assert_array_equal(more.rows[num:, -1], 1.0)
    assert np.asarray(more.row_mask)[num:].all()


def test_tasks_without_summaries_say_so() -> None:
    model = ModelConfig(base="standard", inputs="theta", parametrization="velocity", summaries=True)
    config = NetworkConfig(TaskConfig("fa", 1), model, FlowConfig(loss="flow_matching"), TargetsConfig())
    with pytest.raises(ValueError, match=r"summaries=true is for tasks that summarize their data.*'fa/1' does"):
        build_network(config)
