"""Tiny runs."""

from __future__ import annotations

import pytest

from icl_bayes.nets import ModelConfig
from icl_bayes.training import FlowConfig, NetworkConfig, TargetsConfig, TaskConfig, TrainingConfig

MODEL = {"width": 8, "heads": 2, "feedforward": 8, "inducing_points": 2, "decoder_blocks": 1, "time_features": 2}


def tiny_config(
    model: dict | None = None, flow: FlowConfig | None = None, targets: TargetsConfig | None = None, **training
) -> NetworkConfig:
    """A network that compiles in seconds and trains in milliseconds."""
    settings = {
        "num_steps": 12,
        "steps_per_call": 2,
        "passes": 1,
        "batch_size": 4,
        "row_buckets": [16],
        "bucket_weights": [1.0],
        "checkpoint_minutes": 0.0,
    }
    return NetworkConfig(
        task=TaskConfig(scenario=1, num_columns=2, covariates="gaussian"),
        model=ModelConfig(**{**MODEL, **(model or {})}),
        flow=flow or FlowConfig(),
        targets=targets or TargetsConfig(num_draws=3, num_leapfrogs=2, newton_steps=4),
        training=TrainingConfig(**{**settings, **training}),
    )


def simple_config(**training) -> NetworkConfig:
    """One that compiles in a third of the time: no likelihood in the network, no search for a metric of the chains."""
    return tiny_config(
        model={"base": "standard", "inputs": "theta", "parametrization": "velocity"},
        flow=FlowConfig("cosine", "stable_target"),
        targets=TargetsConfig(num_draws=3, num_leapfrogs=2, metric="prior"),
        **training,
    )


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory):
    """An uninterrupted run: its configuration and directory."""
    from icl_bayes.training import fit

    config, run_dir = simple_config(), tmp_path_factory.mktemp("run")
    fit(config, run_dir, evaluate=False)
    return config, run_dir
