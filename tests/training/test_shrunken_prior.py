"""Simulation from a shrunken prior: weighted draws still represent the posterior under the prior itself."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import joint_draw

from icl_bayes.tasks import make_task
from icl_bayes.training import FlowConfig, NetworkConfig, TargetsConfig, TaskConfig
from icl_bayes.training.held_out import _long_chains
from icl_bayes.training.targets import SHRINKAGE, Targets, make_targets, shrunken_excess
from training.conftest import tiny_config

NUM_DATASETS, NUM_ROWS = 6000, 12
CONFIG = TargetsConfig(num_draws=6, num_moves=1, num_leapfrogs=3, metric="prior", shrunk_share=0.5)
METRICS = {"glm/1": "pilots", "fa/6": "prior"}
TASKS = {"glm/1": {"covariates": "gaussian", "num_columns": 2}, "fa/6": {}}


def simulated(name: str, config: TargetsConfig) -> Targets:
    task = make_task(name, **TASKS[name])
    targets = make_targets(task, config, base="standard")
    keys = jax.random.split(jax.random.key(5), NUM_DATASETS)
    simulate = jax.jit(lambda keys: jax.lax.map(lambda key: targets(key, jnp.asarray(NUM_ROWS), NUM_ROWS), keys))
    return jax.device_get(simulate(keys))


def statistics(theta: np.ndarray, dataset) -> np.ndarray:
    """Functions ``(N, k)`` of the last draw and its data, whose means under the joint law are compared."""
    x, others = np.asarray(dataset["x"]), np.asarray(dataset.rows.get("y", dataset["x"][..., -1]))
    size = np.tanh(np.abs(others).mean(axis=1))
    cross = np.tanh(np.einsum("nip,ni->np", x, others) / NUM_ROWS)
    return np.column_stack(
        [theta, theta**2, theta[:, :2] * cross[:, :2], theta**2 * size[:, None], np.exp(-(theta**2))]
    )


def z_scores(weighted: Targets, plain: Targets, log_weights: np.ndarray) -> np.ndarray:
    """Of weighted means after the chain against plain ones before it."""
    weights = np.exp(log_weights)
    ours = weights[:, None] * statistics(weighted.theta[:, -1], weighted.dataset)
    theirs = statistics(plain.theta[:, 0], plain.dataset)
    variance = ours.var(axis=0) + theirs.var(axis=0)
    return (ours.mean(axis=0) - theirs.mean(axis=0)) / np.sqrt(variance / NUM_DATASETS)


@pytest.mark.parametrize("name", TASKS)
def test_weighted_draws_have_the_joint_law_of_the_task(name: str) -> None:
    """Weights are relative to the task's prior, so means over all simulations are those of its own joint law."""
    shrunk = simulated(name, dataclasses.replace(CONFIG, metric=METRICS[name]))
    plain = simulated(name, TargetsConfig(num_draws=1, num_moves=0))
    assert shrunk.weight.all()
    assert np.mean(shrunk.theta[:, -1] != shrunk.theta[:, 0]) > 0.9, "The chain moved."
    assert np.abs(z_scores(shrunk, plain, shrunk.log_weights[:, -1])).max() < 4.0
    # Negative control: without weights the shrinking shows.
    assert np.abs(z_scores(shrunk, plain, np.zeros(NUM_DATASETS))).max() > 8.0


def test_weights_are_bounded_by_the_share_of_the_prior() -> None:
    """However far theta is shrunk, no draw counts for more than the reciprocal of that share."""
    task = make_task("fa/6")
    _, dataset = joint_draw(task, jax.random.key(0), 5)
    theta = 3.0 * jax.random.normal(jax.random.key(1), (200, 3))
    excess = jax.jit(jax.vmap(lambda one: shrunken_excess(lambda v: task.log_prior(v, dataset), one, 0.5)))(theta)
    assert np.all(np.asarray(excess) >= np.log(0.5) - 1e-5)
    at_center = shrunken_excess(lambda v: task.log_prior(v, dataset), jnp.zeros(3), 0.5)
    expected = 0.5 + 0.5 * np.mean([scale**-3.0 for scale in SHRINKAGE])
    assert float(at_center) == pytest.approx(np.log(expected), rel=1e-4)


def test_held_out_data_sets_come_from_the_prior_itself() -> None:
    chains = _long_chains(CONFIG)
    assert (chains.shrunk_share, chains.metric) == (0.0, "posterior")


def test_settings_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="shrunk_share must lie in"):
        TargetsConfig(shrunk_share=1.0)
    with pytest.raises(ValueError, match=r"needs targets\.metric=prior, pilots, warped or modes"):
        TargetsConfig(shrunk_share=0.5)
    with pytest.raises(
        ValueError,
        match=r"metric must be one of \('posterior', 'prior', 'pilots', 'warped', 'modes'\); received 'identity'",
    ):
        TargetsConfig(metric="identity")
    standard = dataclasses.replace(
        tiny_config().model, base="standard", inputs="theta", parametrization="velocity", smoothed_score=False
    )
    with pytest.raises(ValueError, match=r"shrunk_share needs flow\.loss=stable_target or stein_target"):
        NetworkConfig(TaskConfig(), standard, FlowConfig("linear", "flow_matching"), CONFIG)
    with pytest.raises(ValueError, match="the base is the metric"):
        NetworkConfig(TaskConfig(), targets=TargetsConfig(metric="prior"))
    NetworkConfig(TaskConfig(), standard, FlowConfig("linear", "stable_target"), CONFIG)
