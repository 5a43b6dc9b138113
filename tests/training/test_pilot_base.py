"""The base with the posterior's moments: what flows start from, what the encoder reads, and what is refused."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from icl_bayes.baselines import make_baseline
from icl_bayes.baselines.exact import ExactSampler
from icl_bayes.flow import Solver, pilot_sample
from icl_bayes.nets import ModelConfig
from icl_bayes.tasks import Task, make_task
from icl_bayes.training import FlowConfig, NetworkConfig, TargetsConfig, TaskConfig, build_network
from icl_bayes.training.features import NUM_SAMPLED
from icl_bayes.types import Dataset
from training.conftest import MODEL

SMALL = {**MODEL, "base": "pilots", "inputs": "theta_and_score", "parametrization": "residual"}
TASK = TaskConfig("glm", 1, num_columns=2, covariates="gaussian")


@pytest.fixture(scope="module")
def line() -> tuple[Task, Dataset]:
    task = make_task("glm/1", num_columns=2, covariates="gaussian")
    _, dataset = jax.jit(lambda key: task.simulate(key, jnp.asarray(20), 24))(jax.random.key(1))
    return task, jax.device_get(dataset)


def network(task: TaskConfig = TASK, **model):
    targets = TargetsConfig(metric="pilots")
    return build_network(NetworkConfig(task, ModelConfig(**{**SMALL, **model}), FlowConfig("cosine"), targets))


def test_base_has_the_moments_of_the_posterior(line) -> None:
    task, dataset = line
    short = Dataset(x=dataset["x"][:20], y=dataset["y"][:20], constants=dataset.constants)
    exact = task.compared_matrix(ExactSampler(task).sample(jax.random.key(0), short, 20_000).sites)
    found = make_baseline("importance_moments", task).sample(jax.random.key(0), short, 20_000)
    drawn = task.compared_matrix(found.sites)
    sd = exact.std(axis=0)
    np.testing.assert_allclose(drawn.mean(axis=0), exact.mean(axis=0), atol=0.2 * sd.max())
    np.testing.assert_allclose(drawn.std(axis=0), sd, rtol=0.25)
    assert found.status == "ok"


def test_flow_of_an_untrained_network_stays_near_its_base(line) -> None:
    _, dataset = line
    net = network()
    affine, info = jax.jit(lambda data: net.find_base(None, data))(dataset)
    assert bool(info.is_finite)
    noise, params = jax.random.normal(jax.random.key(0), (200, net.task.dim)), net.init(0)
    drawn = jax.jit(lambda data: net.draw(params, data, noise, Solver("midpoint", 4)))(dataset)
    assert bool(drawn.is_finite)
    moved = np.abs(np.asarray(jax.jit(lambda affine, theta: affine.backward(theta))(affine, drawn.theta) - noise))
    assert 0.0 < np.median(moved) < 0.5


def test_encoder_reads_what_the_base_sampled(line) -> None:
    task, dataset = line
    plain, more = network().features(dataset), network(summaries=True).features(dataset)
    num, width = plain.rows.shape
    assert more.rows.shape == (num + NUM_SAMPLED, width + task.dim + 1)
    sample = pilot_sample(lambda theta: task.log_joint(theta, dataset), task.dim, NUM_SAMPLED)
    np.testing.assert_allclose(more.rows[num:, width:-1], sample, atol=1e-5)
    np.testing.assert_allclose(np.mean(sample, axis=0), 0.0, atol=0.25)
    assert np.asarray(more.row_mask)[num:].all()
    assert np.asarray(more.row_mask)[:num].sum() == 20


def test_sample_does_not_depend_on_padding(line) -> None:
    task, dataset = line
    short = Dataset(x=dataset["x"][:20], y=dataset["y"][:20], constants=dataset.constants)
    samples = [
        pilot_sample(lambda theta, one=one: task.log_joint(theta, one), task.dim, 16) for one in (dataset, short)
    ]
    np.testing.assert_allclose(*samples, atol=2e-3)


def test_many_dimensions_are_refused() -> None:
    with pytest.raises(ValueError, match="at most 8 dimensions; 'gmm/2' has 21"):
        make_baseline("importance_moments", make_task("gmm/2"))
    with pytest.raises(ValueError, match=r"targets.metric=prior is for model.base=standard or gaussian"):
        NetworkConfig(TASK, ModelConfig(**SMALL), FlowConfig("cosine"), TargetsConfig(metric="prior"))
