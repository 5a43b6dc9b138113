"""What networks read of the rows of a user's own model: columns put on one scale by the model's simulations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpyro import handlers

from icl_bayes.compiler import compiled_once
from icl_bayes.tasks.data_checks import require_finite
from icl_bayes.tasks.features import Features
from icl_bayes.types import AnyArray, Array, Dataset

MAX_LEVELS = 32
"""Values of a column of whole numbers up to which it is read as a label."""
_CLIP, _SHRINK = 30.0, 3.0


@dataclass(frozen=True)
class ColumnScale:
    """How one column is read.

    Attributes:
        levels: its values, if it is a label; else none.
        center, spread: median and interquartile range over 1.35 in simulations, else.
    """

    levels: tuple[float, ...] = ()
    center: float = 0.0
    spread: float = 1.0

    @property
    def is_binary(self) -> bool:
        return len(self.levels) == 2

    def read(self, column: Array) -> list[Array]:
        """Features of a column ``(n,)``, each ``(n,)``: one per level, or the value clipped and its arcsinh."""
        if self.is_binary:
            return [jnp.where(column == self.levels[1], 1.0, -1.0)]
        if self.levels:
            return [(column == level).astype(jnp.float32) for level in self.levels]
        z = (column.astype(jnp.float32) - self.center) / self.spread
        return [jnp.clip(z, -_CLIP, _CLIP) / _SHRINK, jnp.arcsinh(z)]


def column_scale(values: np.ndarray, *, is_response: bool) -> ColumnScale:
    """The scale of simulated values ``(data sets, n)``.

    Whole numbers from 0 to K - 1 are labels, but not where each occurs once per data set (an index, such as time), and
    in responses, which are counts, only if binary.
    """
    is_whole = values.dtype.kind in "iub"
    distinct = np.unique(values)
    if is_whole and values.shape[1] > 2 and len(np.unique(values[0])) == values.shape[1]:
        is_whole = False
    is_whole = is_whole and np.array_equal(distinct, np.arange(len(distinct)))
    most = 2 if is_response or not is_whole else MAX_LEVELS
    if len(distinct) <= most and (is_whole or np.isin(distinct, (0.0, 1.0)).all()):
        return ColumnScale(tuple(float(value) for value in distinct))
    low, center, high = np.quantile(values.astype(np.float64), [0.25, 0.5, 0.75])
    spread = (high - low) / 1.35
    if not spread > 0.0:
        spread = max(float(np.std(values)), 1.0)
    return ColumnScale((), float(center), float(spread))


def columns_of(values: AnyArray) -> list[AnyArray]:
    """Columns ``(n,)`` of a row array ``(n,)`` or ``(n, p)``."""
    return [values] if values.ndim == 1 else [values[:, index] for index in range(values.shape[1])]


def row_scales(simulated: Mapping[str, np.ndarray], responses: tuple[str, ...]) -> dict[str, list[ColumnScale]]:
    """Scales of all columns from simulated rows ``{name: (data sets, n, ...)}``."""

    def columns(values: np.ndarray) -> list[np.ndarray]:
        return [values] if values.ndim == 2 else [values[..., index] for index in range(values.shape[2])]

    return {
        name: [column_scale(column, is_response=name in responses) for column in columns(values)]
        for name, values in simulated.items()
    }


def make_row_features(
    scales: Mapping[str, list[ColumnScale]], constants: Mapping[str, float], usual_rows: int
) -> Callable[[Dataset], Features]:
    """``dataset -> Features``: all columns, logarithms of the constants relative to their defaults, and of n."""

    def features(dataset: Dataset) -> Features:
        columns = [
            feature
            for name in sorted(scales)
            for scale, column in zip(scales[name], columns_of(dataset[name]), strict=True)
            for feature in scale.read(jnp.asarray(column))
        ]
        rows = jnp.where(dataset.row_mask[:, None], jnp.stack(columns, axis=1), 0.0)
        context = [jnp.log(dataset.constants[name] / constants[name]) for name in sorted(constants)]
        context.append(jnp.log(dataset.num_rows / usual_rows))
        return Features(rows.astype(jnp.float32), jnp.stack(context).astype(jnp.float32), dataset.row_mask)

    return features


def make_row_validator(
    name: str,
    example: Dataset,
    scales: Mapping[str, list[ColumnScale]],
    supports: Mapping[str, Any],
    row_range: tuple[int, int],
) -> Callable[[Dataset], Dataset]:
    """Checks of a user's data set for their own model.

    Args:
        supports: of every response, where it does not depend on parameters; else ``None``.
    """
    low, high = row_range

    def validate(dataset: Dataset) -> Dataset:
        missing = sorted(set(example.rows) - set(dataset.rows))
        unknown = sorted(set(dataset.rows) - set(example.rows))
        if missing or unknown:
            raise ValueError(
                f"A data set for {name} has the rows {sorted(example.rows)}; missing {missing}, unknown {unknown}."
            )
        num_rows = int(np.sum(np.asarray(dataset.row_mask)))
        if num_rows == 0 or (low == high and (num_rows != low or dataset.padded_rows != low)):
            wanted = f"exactly {low} rows" if low == high else "at least one row"
            raise ValueError(f"A data set for {name} has {wanted}; received {num_rows}.")
        rows = {}
        for key, like in example.rows.items():
            value = np.asarray(dataset[key])
            if value.shape[1:] != like.shape[1:]:
                raise ValueError(f"{key} must have shape (n{_rest(like)}); received {value.shape}.")
            finite = require_finite(key, value)
            rows[key] = finite.astype(like.dtype)
            if like.dtype.kind in "iub" and not np.array_equal(finite, rows[key].astype(np.float32)):
                raise ValueError(f"{key} takes whole numbers; received {finite.ravel()[:5].tolist()}.")
            valid = np.asarray(dataset.row_mask, bool)
            if key in supports:
                _require_support(key, rows[key][valid], supports[key])
                continue
            for scale, column in zip(scales[key], columns_of(rows[key][valid]), strict=True):
                strange = sorted(set(np.unique(column).tolist()) - set(scale.levels)) if scale.levels else []
                if strange:
                    raise ValueError(
                        f"{key} has the value(s) {strange[:5]}, which inputs never simulates; it knows "
                        f"{list(scale.levels)}."
                    )
        return dataset.replace(rows=rows)

    return validate


def _require_support(name: str, values: np.ndarray, support: Any) -> None:
    if support is None:
        return
    inside = np.asarray(support(values))
    if not inside.all():
        first = values.ravel()[np.flatnonzero(~inside.ravel())[0]] if inside.shape == values.shape else values[0]
        raise ValueError(f"{name} has values outside of what the model can produce ({support}), such as {first:g}.")


def _rest(array: AnyArray) -> str:
    return "".join(f", {size}" for size in array.shape[1:]) or ","


def simulate_rows_of(
    program: Callable[[Dataset], None],
    inputs: Callable[[Array, Array], dict[str, Array]],
    responses: tuple[str, ...],
    constants: Mapping[str, float],
    num_rows: int,
    num_datasets: int = 256,
) -> dict[str, np.ndarray]:
    """Rows of simulated data sets, ``{name: (num_datasets, num_rows, ...)}``."""
    mask = jnp.ones(num_rows, bool)
    filled = {key: jnp.asarray(value, jnp.float32) for key, value in constants.items()}

    def one(rng_key: Array) -> dict[str, Array]:
        inputs_key, model_key = jax.random.split(rng_key)
        rows = inputs(inputs_key, mask)
        dataset = Dataset(row_mask=mask, constants=filled, **rows)
        trace = handlers.trace(handlers.seed(program, model_key)).get_trace(dataset)
        return {**rows, **{name: trace[name]["value"] for name in responses}}

    keys = jax.random.split(jax.random.key(7), num_datasets)
    simulated = jax.device_get(compiled_once(jax.vmap(one), keys)(keys))
    return {name: np.asarray(value) for name, value in simulated.items()}
