"""A small network whose draws are near the posterior, and a data set with an exact answer."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from helpers import moved_weights
from training.conftest import tiny_config

import icl_bayes
from icl_bayes.inference import AmortizedPosterior
from icl_bayes.training import build_network, load_checkpoint, save_checkpoint

NOISE = 0.03
"""Of the weights, which are fresh otherwise: draws that are near the posterior, but not as its base has them."""


def noisy_network(directory: Path, noise: float, scenario: int = 1) -> AmortizedPosterior:
    """A network of fresh weights plus noise, for a regression with two covariates."""
    config = tiny_config(row_buckets=[64])
    config = dataclasses.replace(config, task=dataclasses.replace(config.task, scenario=scenario))
    network = build_network(config)
    calibration = {"num_rows": [10, 64], "statistics": {}}
    params = moved_weights(network.init(0), noise)
    save_checkpoint(directory, config, network.task, params, provenance={}, calibration=calibration)
    return AmortizedPosterior.from_checkpoint(load_checkpoint(directory), "tiny")


@pytest.fixture(scope="package")
def net(tmp_path_factory: pytest.TempPathFactory) -> AmortizedPosterior:
    return noisy_network(tmp_path_factory.mktemp("net") / "network", NOISE)


@pytest.fixture(scope="package")
def dataset() -> icl_bayes.Dataset:
    generator = np.random.default_rng(4)
    x = generator.normal(size=(30, 2))
    return icl_bayes.Dataset(x=x, y=x @ [0.8, -0.3] + 0.7 * generator.normal(size=30))
