"""What data sets looked like in training, so that inference can say when one looks different."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from icl_bayes.tasks import Features
from icl_bayes.training.network import Network
from icl_bayes.training.targets import shrinkage

NUM_SIMULATED = 512


def summary_statistics(features: Features) -> dict[str, jax.Array]:
    """A few statistics of a data set's features, each ``()``: their extremes and moments per column."""
    mask = features.row_mask[:, None]
    count = jnp.maximum(jnp.sum(mask), 1)
    mean = jnp.sum(jnp.where(mask, features.rows, 0.0), axis=0) / count
    square = jnp.sum(jnp.where(mask, (features.rows - mean) ** 2, 0.0), axis=0) / count
    largest = jnp.max(jnp.where(mask, jnp.abs(features.rows), 0.0), axis=0)
    out: dict[str, jax.Array] = {}
    for j in range(features.rows.shape[1]):
        out[f"mean of feature {j}"] = mean[j]
        out[f"log sd of feature {j}"] = 0.5 * jnp.log(square[j] + 1e-6)
        out[f"log maximum of feature {j}"] = jnp.log(largest[j] + 1e-3)
    for j in range(features.context.shape[0]):
        out[f"context {j}"] = features.context[j]
    return out


def training_range(network: Network) -> dict[str, Any]:
    """Ranges of the summary statistics over simulated data sets, and the range of n."""
    settings, task = network.config.training, network.task
    low = settings.fixed_rows or settings.min_rows
    high = settings.max_rows
    padded, share = (high if settings.fixed_rows else min(high, 128)), network.config.targets.shrunk_share

    def one(rng_key: jax.Array) -> tuple[dict[str, jax.Array], jax.Array]:
        rows_key, data_key = jax.random.split(rng_key)
        num_rows = jnp.exp(jax.random.uniform(rows_key, minval=np.log(low), maxval=np.log(padded + 0.5)))
        scale = shrinkage(jax.random.fold_in(rng_key, 1), share) if share else None
        _, dataset = task.simulate(data_key, jnp.clip(num_rows.astype(jnp.int32), low, padded), padded, scale=scale)
        return summary_statistics(task.features(dataset)), task.is_accepted(dataset)

    statistics, kept = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(9), NUM_SIMULATED))
    kept = np.asarray(kept)
    ranges = {}
    for name, value in statistics.items():
        values = np.asarray(value)[kept]
        ranges[name] = [float(values.min()), float(values.max())]
    ranges[f"context {len([k for k in ranges if k.startswith('context')]) - 1}"] = [
        float(np.log(low / task.paper_num_rows)) - 1e-3,
        float(np.log(high / task.paper_num_rows)) + 1e-3,
    ]
    return {"num_rows": [int(low), int(high)], "statistics": ranges}
