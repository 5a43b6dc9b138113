"""The example models, each from program to posterior with a network of two steps: shapes, checks, repair."""

from __future__ import annotations

import dataclasses
import importlib

import jax
import numpy as np
import pytest
from rich.console import Console

import icl_bayes
from icl_bayes.inference import Posterior
from icl_bayes.nets import ModelConfig
from icl_bayes.tasks import load_program
from icl_bayes.training import CheckpointError, FlowConfig, NetworkConfig, TargetsConfig, TrainingConfig, train

LONGER = ("dose_response", "varying_intercepts", "autoregression", "change_point")
NAMES = ("eight_schools", *(pytest.param(name, marks=pytest.mark.slow) for name in LONGER))
SMALL = dict(width=8, heads=2, feedforward=8, decoder_blocks=1, inducing_points=2)
TWO_STEPS = TrainingConfig(num_steps=2, steps_per_call=2, passes=1, batch_size=8)
SIMULATION_ONLY = NetworkConfig(
    model=ModelConfig(**SMALL, base="standard", inputs="theta", parametrization="velocity"),
    flow=FlowConfig(loss="flow_matching"),
    targets=TargetsConfig(num_draws=1, num_moves=0),
    training=TWO_STEPS,
)
INFORMED = NetworkConfig(
    model=ModelConfig(**SMALL),
    targets=TargetsConfig(num_draws=4, num_leapfrogs=2, newton_steps=6, variational_steps=2, mode_starts=1),
    training=TWO_STEPS,
)


@pytest.mark.parametrize("name", NAMES)
def test_from_model_to_posterior(name, tmp_path):
    task = load_program(f"icl_bayes.examples.{name}:task")
    config = INFORMED if name == "eight_schools" else SIMULATION_ONLY
    directory = train(task, tmp_path, minutes=0.0, config=config, console=Console(quiet=True), evaluate=False)
    with pytest.raises(CheckpointError, match="Hand the task over"):
        icl_bayes.load(directory)
    net = icl_bayes.load(directory, task=task)
    low, high = task.row_range or (0, 0)
    settings = net.checkpoint.config.training
    assert (settings.fixed_rows or settings.min_rows, settings.max_rows) == (low, high)
    post = net.sample(jax.random.key(0), importlib.import_module(f"icl_bayes.examples.{name}").data(), 50)
    assert set(post.sites) == set(task.target)
    assert np.isfinite(post.target_matrix()[0]).all()
    if name != "eight_schools":
        return
    with pytest.raises(CheckpointError, match="another version of task"):
        icl_bayes.load(directory, task=dataclasses.replace(task, overrides={task.target[1]: "bijector"}))


def test_predictions_know_the_labels_of_a_model():
    """A group that does not exist would index the last one; it is refused instead."""
    example = importlib.import_module("icl_bayes.examples.varying_intercepts")
    task = load_program("icl_bayes.examples.varying_intercepts:task")
    dataset = task.prepare(example.data())
    theta = np.zeros((40, task.dim), np.float32)
    theta[:, task.sites["intercept"].start + 3] = 2.0
    sites = {
        name: np.asarray(value) for name, value in jax.jit(jax.vmap(task.constrain, (0, None)))(theta, dataset).items()
    }
    post = Posterior(task, dataset, theta, sites)
    x = np.zeros(2)
    found = post.predict(jax.random.key(0), icl_bayes.Dataset(group=[3, 4], x=x))["y"]
    expected = sites["intercept"][0, [3, 4]]
    assert np.abs(found.mean(axis=0) - expected).max() < 5.0 * sites["noise"][0] / np.sqrt(40)
    with pytest.raises(ValueError, match="which inputs never simulates"):
        post.predict(jax.random.key(0), icl_bayes.Dataset(group=[3, 8], x=x))
