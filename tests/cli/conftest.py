"""One small checkpoint, and runs that are over in a moment."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

TINY = [
    "task.covariates=gaussian",
    "model.width=8",
    "model.heads=2",
    "model.feedforward=8",
    "model.encoder_layers=1",
    "model.decoder_blocks=1",
    "model.head_layers=1",
    "model.inducing_points=2",
    "targets.newton_steps=2",
    "training.row_buckets=[16]",
    "training.bucket_weights=[1.0]",
    "training.batch_size=8",
    "training.num_steps=2",
    "training.steps_per_call=2",
    "training.passes=1",
    "evaluate=false",
]
"""A network that trains in the time it takes to compile."""


@pytest.fixture(autouse=True)
def keep_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """What a command sets in the environment ends with the test; what it keeps for later, with all tests."""
    monkeypatch.setenv("ICL_BAYES_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    for name in ("JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"):
        monkeypatch.setenv(name, os.environ.get(name, "0" if name.endswith("SECS") else ""))
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")


def write_network(directory: Path, scenario: int, experiment: str = "informed") -> Path:
    """Save fresh weights of a tiny network; it draws from its base."""
    from icl_bayes.config import compose
    from icl_bayes.training import build_network, save_checkpoint

    arguments = [one for one in TINY if not one.startswith("training.row_buckets")]
    settings = compose(
        "train", [f"scenario={scenario}", f"experiment={experiment}", "training.row_buckets=[64]", *arguments]
    )
    network = build_network(settings.network())
    return save_checkpoint(
        directory,
        network.config,
        network.task,
        network.init(0),
        provenance={"seed": 0},
        calibration={"num_rows": [10, 64], "statistics": {"mean of feature 0": [-0.1, 0.1]}},
    )


@pytest.fixture(scope="session")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree of networks like that of the shipped weights, with ``glm/1`` in it."""
    root = tmp_path_factory.mktemp("networks")
    write_network(root / "glm" / "1", 1)
    return root


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A CSV file: forty rows, columns a to e and y."""
    import numpy as np

    generator = np.random.default_rng(0)
    x = generator.normal(size=(40, 5))
    x = (x - x.mean(0)) / x.std(0)
    y = x @ [1.0, -0.5, 0.0, 0.3, 0.8] + 0.5 * generator.normal(size=40)
    path = tmp_path / "table.csv"
    np.savetxt(path, np.column_stack([x, y]), delimiter=",", header="a,b,c,d,e,y", comments="", fmt="%.6f")
    return path
