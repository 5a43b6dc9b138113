"""How many gradient steps fit into a given time on this machine."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path

import jax

from icl_bayes.tasks import Task
from icl_bayes.training.config import NetworkConfig
from icl_bayes.training.network import build_network
from icl_bayes.training.step import bucket_of, data_mesh, init_state, make_train_chunk

_MIN_SECONDS = 2.0


def seconds_per_chunk(config: NetworkConfig, task: Task | None = None) -> float:
    """Seconds of one compiled chunk of training steps, compilation apart; all row buckets cost about the same."""
    network = build_network(config, task)
    state = init_state(network, config.training)
    rows = bucket_of(config.training, 0)
    chunk = make_train_chunk(network, config.training, data_mesh(), rows).compile(state)
    state, _ = jax.block_until_ready(chunk(state))
    started, done = time.perf_counter(), 0
    while time.perf_counter() - started < _MIN_SECONDS or done < 2:
        state, _ = jax.block_until_ready(chunk(state))
        done += 1
    return (time.perf_counter() - started) / done


def with_budget(config: NetworkConfig, minutes: float, run_dir: Path, task: Task | None = None) -> NetworkConfig:
    """The configuration with as many steps as take ``minutes``, so that the whole schedule fits.

    A run that exists keeps the number it was started with: resuming must not depend on today's speed.

    Args:
        task: what ``config.task`` builds, where it is at hand.

    Raises:
        ValueError: if ``minutes`` is not positive.
    """
    if minutes <= 0.0:
        raise ValueError(f"minutes must be positive; received {minutes}.")
    try:
        num_steps = int(json.loads((run_dir / "config.json").read_text())["training"]["num_steps"])
    except (OSError, ValueError, KeyError, TypeError):
        chunks = max(1, int(60.0 * minutes / seconds_per_chunk(config, task)))
        num_steps = chunks * config.training.steps_per_call
    return dataclasses.replace(config, training=dataclasses.replace(config.training, num_steps=num_steps))
