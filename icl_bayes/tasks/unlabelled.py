"""What models share whose rows have no response: factor analysis and mixtures."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax.numpy as jnp
import numpy as np

from icl_bayes.tasks.data_checks import require_finite
from icl_bayes.types import Array, Dataset


def compressed_rows(dataset: Dataset, scale: float) -> Array:
    """Rows ``(n, 2 p)`` as a network reads them: relative to their usual scale, and compressed; zero where masked."""
    x = jnp.asarray(dataset["x"], jnp.float32)
    rows = jnp.concatenate([jnp.clip(x / scale, -30.0, 30.0), jnp.arcsinh(x)], axis=1)
    return jnp.where(dataset.row_mask[:, None], rows, 0.0)


def constant_context(dataset: Dataset, defaults: Mapping[str, float]) -> Array:
    """Logarithms of the prior constants, by name, relative to the defaults."""
    return jnp.stack([jnp.log(dataset.constants[name] / value) for name, value in sorted(defaults.items())])


def log_num_rows(dataset: Dataset, usual: int) -> Array:
    """Of the rows that exist, relative to the usual number, ``(1,)``."""
    return jnp.log(dataset.num_rows / usual)[None]


HYPERPRIOR_FACTORS = (0.5, 2.0)
"""Range of every prior constant in training with varied constants, relative to the scenario's."""


def hyperprior_ranges(hyperprior: str, constants: Mapping[str, float]) -> dict[str, tuple[float, float]]:
    """Training ranges of the prior constants: none if ``fixed``, :data:`HYPERPRIOR_FACTORS` if ``varied``.

    Raises:
        ValueError: for anything else.
    """
    if hyperprior not in ("fixed", "varied"):
        raise ValueError(f"Unknown hyperprior {hyperprior!r}; choices: ['fixed', 'varied'].")
    low, high = HYPERPRIOR_FACTORS
    return {name: (low * value, high * value) for name, value in constants.items()} if hyperprior == "varied" else {}


def example_rows(num_columns: int, constants: Mapping[str, float]) -> Dataset:
    """A valid data set of six rows."""
    return Dataset(
        x=np.random.default_rng(0).normal(size=(6, num_columns)).astype(np.float32),
        constants={name: jnp.asarray(value, jnp.float32) for name, value in constants.items()},
    )


def make_rows_validator(model: str, num_columns: int) -> Callable[[Dataset], Dataset]:
    """Checks a user's data set of rows ``x`` ``(n, num_columns)``; a single column may come as ``(n,)``."""

    def validate(dataset: Dataset) -> Dataset:
        if "x" not in dataset:
            raise ValueError(f"{model} needs rows 'x' (n, {num_columns}); received {sorted(dataset.rows)}.")
        x = require_finite("x", dataset["x"])
        if x.ndim == num_columns == 1:
            x = x[:, None]
        if x.ndim != 2 or x.shape[1] != num_columns:
            raise ValueError(f"x must have shape (n, {num_columns}), one column per feature; received {x.shape}.")
        if not np.any(dataset.row_mask):
            raise ValueError("The data set has no rows; at least one observation is needed.")
        return dataset.replace(rows={"x": x})

    return validate


def no_inputs(rng_key: Array, row_mask: Array) -> dict[str, Array]:
    """The covariate prior of a model without covariates."""
    del rng_key, row_mask
    return {}
