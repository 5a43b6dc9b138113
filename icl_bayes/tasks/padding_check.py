"""A check of every task when it is made: rows that are masked must not count."""

from __future__ import annotations

from typing import Protocol

import jax
import numpy as np

from icl_bayes.compiler import compiled_once
from icl_bayes.types import Array, Dataset


class _HasLogJoint(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def example(self) -> Dataset: ...

    @property
    def dim(self) -> int: ...

    def log_joint(self, theta: Array, dataset: Dataset) -> Array: ...


def require_padding_invariance(task: _HasLogJoint) -> None:
    """Padded and unpadded log joints must agree, or padding would falsify posteriors.

    Raises:
        ValueError: where they differ, with both values and the usual cause.
    """
    theta = np.random.default_rng(1).normal(0.0, 0.3, size=(3, task.dim)).astype(np.float32)
    padded = task.example.pad_rows(task.example.padded_rows + 3)
    log_joint = jax.vmap(task.log_joint, in_axes=(0, None))
    arguments = theta, task.example, padded
    both = compiled_once(lambda theta, plain, padded: (log_joint(theta, plain), log_joint(theta, padded)), *arguments)
    plain, with_padding = jax.device_get(both(*arguments))
    if not np.allclose(plain, with_padding, rtol=1e-4, atol=1e-3):
        raise ValueError(
            f"Task {task.name!r}: the log joint changes when masked rows are appended "
            f"({plain} against {with_padding}). Wrap the observation in "
            "numpyro.handlers.mask(mask=dataset.row_mask) and avoid reductions over raw rows."
        )
