"""How many steps fit into a time: counted on compiled steps, not on their compilation."""

from __future__ import annotations

import json
import time

import jax.numpy as jnp
import pytest

from icl_bayes.training import NetworkConfig, TrainingConfig, budget

SECONDS = 0.05


class Chunk:
    """Stands in for a compiled chunk of steps; called without being compiled, it would compile again."""

    def __init__(self, compiled: bool = False) -> None:
        self.compiled = compiled

    def compile(self, state):
        time.sleep(1.0)
        return Chunk(compiled=True)

    def __call__(self, state):
        assert self.compiled
        time.sleep(SECONDS)
        return state, ()


def test_compilation_takes_nothing_from_the_budget(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(budget, "build_network", lambda config, task: None)
    monkeypatch.setattr(budget, "init_state", lambda network, config: jnp.zeros(()))
    monkeypatch.setattr(budget, "make_train_chunk", lambda *arguments: Chunk())
    monkeypatch.setattr(budget, "_MIN_SECONDS", 0.5)
    config = NetworkConfig(training=TrainingConfig(steps_per_call=16))
    found = budget.with_budget(config, 1.0, tmp_path).training.num_steps
    assert found % 16 == 0
    assert 0.5 * 60.0 / SECONDS < found / 16 <= 60.0 / SECONDS  # sleeping takes longer than asked for, never less
    (tmp_path / "config.json").write_text(json.dumps({"training": {"num_steps": 48}}))
    assert budget.with_budget(config, 1.0, tmp_path).training.num_steps == 48  # a run keeps what it was started with
    with pytest.raises(ValueError, match="minutes must be positive"):
        budget.with_budget(config, 0.0, tmp_path)
