"""What a network reads: the task's features, beside the rows summaries of the data, and what its velocity sees."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from icl_bayes.flow import MAX_DENOISED, importance_denoiser, pilot_sample
from icl_bayes.nets import ModelConfig
from icl_bayes.nets.velocity import Denoiser
from icl_bayes.tasks import Features, Task
from icl_bayes.types import Array, Dataset

NUM_SAMPLED = 48


def summaries_of(config: ModelConfig, task: Task, dataset: Dataset) -> Array:
    """What the encoder reads beside the rows, ``(k, e)``: the task's own summaries, or what the base has sampled.

    Raises:
        ValueError: if there is neither.
    """
    if task.summaries is not None:
        return task.summaries(dataset)
    if config.base in ("pilots", "warped"):
        log_joint = lambda theta: task.log_joint(theta, dataset)  # noqa: E731
        return pilot_sample(log_joint, task.dim, NUM_SAMPLED, is_warped=config.base == "warped")
    raise ValueError(
        "model.summaries=true is for tasks that summarize their data, such as mixtures, and for model.base=pilots or "
        f"warped; task {task.name!r} does not, and the base is {config.base!r}. Set model.summaries=false."
    )


def features_of(config: ModelConfig, task: Task, dataset: Dataset) -> Features:
    """The task's features, and with ``config.summaries`` its summaries as further tokens, in columns of their own."""
    features = task.features(dataset)
    if not config.summaries:
        return features
    tokens = jax.lax.stop_gradient(summaries_of(config, task, dataset))
    rows = jax.scipy.linalg.block_diag(features.rows, jnp.pad(tokens, ((0, 0), (0, 1)), constant_values=1.0))
    exist = jnp.ones(len(tokens), bool)
    return features._replace(rows=rows, row_mask=jnp.concatenate([jnp.asarray(features.row_mask), exist]))


def denoiser_of(config: ModelConfig, task: Task, dataset: Dataset) -> Denoiser | None:
    """The task's own denoiser, or one by importance sampling, where the velocity sees it.

    Raises:
        ValueError: if there is neither.
    """
    if config.inputs != "theta_and_denoised":
        return None
    denoise = task.denoise
    if denoise is not None:
        return lambda x, alpha, sigma: denoise(x, alpha, sigma, dataset)
    if task.dim > MAX_DENOISED:
        raise ValueError(
            f"model.inputs=theta_and_denoised is for mixtures, and for models of up to {MAX_DENOISED} dimensions; task "
            f"{task.name!r} has {task.dim}. Use model.inputs=theta_and_score or theta."
        )
    return importance_denoiser(lambda theta: task.log_joint(theta, dataset), task.dim)
