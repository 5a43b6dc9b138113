"""Networks that correct a denoiser by importance sampling: right before any training, where points see everything."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
import scipy.stats
from rich.console import Console

import icl_bayes
from icl_bayes.config import compose
from icl_bayes.nets import ModelConfig
from icl_bayes.tasks import Task, make_task
from icl_bayes.training import DENOISED, FlowConfig, NetworkConfig, TargetsConfig, TrainingConfig, default_config, train
from icl_bayes.training.network import build_network
from icl_bayes.training.train import task_config
from icl_bayes.types import Dataset

NOISE, SQUARE = 0.2, 0.8
CONFIG = NetworkConfig(
    model=ModelConfig(
        width=8,
        heads=2,
        feedforward=8,
        decoder_blocks=1,
        inducing_points=2,
        base="standard",
        inputs="theta_and_denoised",
        parametrization="velocity",
    ),
    flow=FlowConfig(path="linear", loss="flow_matching", solver="midpoint", solver_steps=48),
    targets=TargetsConfig(num_draws=1, num_moves=0),
    training=TrainingConfig(num_steps=2, steps_per_call=2, passes=1, batch_size=8),
)


def squared(x=None):
    """Two modes, one on each side of zero."""
    theta = numpyro.sample("theta", dist.Normal(0.5, 1.0))
    with numpyro.plate("rows", 1):
        numpyro.sample("x", dist.Normal(theta**2, NOISE), obs=x)


def wide(x=None):
    theta = numpyro.sample("theta", dist.Normal(0.0, 1.0).expand([9]).to_event(1))
    with numpyro.plate("rows", 1):
        numpyro.sample("x", dist.Normal(theta.sum(), NOISE), obs=x)


@pytest.fixture(scope="module")
def task():
    return Task.from_numpyro(squared, num_rows=1, has_far_modes=True)


@pytest.fixture(scope="module")
def posterior():
    """Quadrature: a grid, and the density on it."""
    grid = np.linspace(-2.5, 2.5, 4001)
    log_joint = -0.5 * (grid - 0.5) ** 2 - 0.5 * ((SQUARE - grid**2) / NOISE) ** 2
    density = np.exp(log_joint)
    return grid, density / np.trapezoid(density, grid)


def test_two_modes_before_training(task, posterior):
    config = dataclasses.replace(CONFIG, task=task_config(task)).for_task(task)
    network = build_network(config, task)
    dataset = task.prepare(Dataset(x=np.asarray([SQUARE], np.float32)))
    params, solver = network.init(0), config.flow.make_solver()
    noise = jax.random.normal(jax.random.key(1), (1000, 1))
    base = jax.jit(network.find_base)(params, dataset)
    drawn = jax.jit(lambda z: network.draw_from(params, dataset, *base, z, solver, with_log_prob=True))(noise)
    theta = np.asarray(jax.jit(jax.vmap(lambda one: task.constrain(one, dataset)["theta"]))(drawn.theta))
    grid, density = posterior
    cdf = np.concatenate([[0.0], np.cumsum(0.5 * (density[1:] + density[:-1]) * np.diff(grid))])
    assert scipy.stats.kstest(theta, lambda value: np.interp(value, grid, cdf)).pvalue > 1e-3
    volume = jax.jit(jax.vmap(task.log_volume, (0, None)))(drawn.theta, dataset)
    error = np.asarray(drawn.log_prob - volume) - np.interp(theta, grid, np.log(density + 1e-30))
    assert np.median(np.abs(error)) < 0.1


def test_from_model_to_posterior(task, tmp_path):
    directory = train(task, tmp_path, minutes=0.0, config=CONFIG, console=Console(quiet=True), evaluate=False)
    net = icl_bayes.load(directory, task=task)
    post = net.sample(jax.random.key(0), Dataset(x=np.asarray([SQUARE], np.float32)), 200)
    assert np.abs(post["theta"] ** 2 - SQUARE).mean() < 2.0 * NOISE
    assert 0.1 < (post["theta"] > 0.0).mean() < 0.99


def test_many_dimensions_are_refused():
    task = Task.from_numpyro(wide, num_rows=1)
    with pytest.raises(ValueError, match=r"up to 8 dimensions; task '.*' has 9"):
        build_network(dataclasses.replace(CONFIG, task=task_config(task)).for_task(task), task)


def test_far_modes_in_few_dimensions_are_trained_so_by_default(task):
    assert default_config(task) is DENOISED
    assert default_config(dataclasses.replace(task, has_far_modes=False)).model.base == "variational"
    assert default_config(make_task("gmm/1")).model.base == "variational"  # experiment=gmm is for them


def test_the_experiment_of_the_command_line_is_the_same():
    composed = compose("train", ["experiment=denoised", "task=custom", "task.program=models:mine"])
    ours = dataclasses.asdict(dataclasses.replace(DENOISED, task=composed.task))
    theirs = {name: dataclasses.asdict(getattr(composed, name)) for name in ours}
    # What the composed settings say of tasks with rows of any number is replaced by what the task says.
    for settings in (ours, theirs):
        for name in ("row_buckets", "bucket_weights", "min_rows", "num_held_out"):
            settings["training"].pop(name)
    assert theirs == ours
