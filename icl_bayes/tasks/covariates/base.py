"""What all covariate priors share: their interface, row-wise noise, and standardisation.

Inside this package tables lie as ``(column, row)``: the long axis is the contiguous one,
which makes random bits and reductions several times cheaper on a CPU. ``sample`` returns
the usual ``(row, column)``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array

_LOOP_ABOVE = 128
"""Number of rows above which noise is drawn one stream after the other."""


@runtime_checkable
class CovariatePrior(Protocol):
    """A distribution over tables of covariates; implementations are frozen dataclasses."""

    name: ClassVar[str]

    def sample(self, rng_key: Array, num_columns: int, row_mask: Array) -> Array:
        """Draw one table.

        Works under ``jit`` and ``vmap`` with ``num_columns`` static. Every column has mean 0
        and standard deviation 1 (divisor n) over the valid rows, whatever their number from
        two up; a single valid row cannot be scaled and holds plain standard normal values.

        Args:
            rng_key: the only source of randomness. The same key with more padded rows behind
                gives the same values on the valid rows, up to rounding in the moments.
            num_columns: number p of columns.
            row_mask: ``(n,)`` boolean, true for rows that exist.

        Returns:
            ``(n, p)`` float32, always finite, zero on padded rows.

        Raises:
            ValueError: if ``num_columns`` is below one or ``row_mask`` is not a vector.
        """
        ...


def check_arguments(num_columns: int, row_mask: Array) -> int:
    """Number of rows, padding included, once the arguments of ``sample`` make sense."""
    if num_columns < 1:
        raise ValueError(f"A covariate table needs num_columns >= 1; received {num_columns}.")
    if jnp.ndim(row_mask) != 1:
        raise ValueError(
            f"row_mask must be a boolean vector of shape (n,); received shape {tuple(jnp.shape(row_mask))}. "
            f"Use jax.vmap for a batch of tables."
        )
    return jnp.shape(row_mask)[0]


def check_range(prior: str, option: str, value: float, low: float, high: float = float("inf")) -> None:
    """Raise ``ValueError`` unless ``low <= value <= high``."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"Covariate prior '{prior}' expects a number for {option}; received {value!r}.")
    if not low <= value <= high:
        raise ValueError(f"Covariate prior '{prior}' expects {low} <= {option} <= {high}; received {option}={value}.")


def check_count(prior: str, option: str, value: int, low: int) -> None:
    """Raise ``ValueError`` unless ``value`` is a whole number of at least ``low``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise ValueError(
            f"Covariate prior '{prior}' expects a whole number of at least {low} for {option}; received {value!r}."
        )


def draw_parameters(
    rng_key: Array, uniforms: Sequence[tuple[int, ...]], normals: Sequence[tuple[int, ...]] = ()
) -> tuple[list[Array], list[Array]]:
    """Uniform and standard normal arrays of the given shapes, all from one flat draw.

    Every call of the generator costs up to half a second to compile, and short trailing axes
    keep it from vectorising: hence one long vector, cut into pieces.
    """
    shapes = [*uniforms, *normals]
    stops = np.cumsum([math.prod(shape) for shape in shapes])
    flat = jax.random.uniform(rng_key, (int(stops[-1]),), jnp.float32)
    pieces = [piece.reshape(shape) for piece, shape in zip(jnp.split(flat, stops[:-1]), shapes, strict=True)]
    lowest = np.nextafter(np.float32(-1.0), np.float32(0.0))
    return pieces[: len(uniforms)], [
        np.float32(np.sqrt(2.0)) * jax.lax.erf_inv(jnp.maximum(2.0 * piece - 1.0, lowest))
        for piece in pieces[len(uniforms) :]
    ]


def row_normals(keys: Array, num_rows: int) -> Array:
    """Standard normals ``(m, num_rows)``, one stream per key ``(m,)``, whose start doesn't depend on ``num_rows``.

    A stream counts along the rows. JAX's default (partitionable) generator hashes that count
    alone, so padding extends a stream without changing its start, at a third of the price of
    one key per row.
    """

    def stream(key: Array) -> Array:
        return jax.random.normal(key, (num_rows,), jnp.float32)

    # All streams of a large batch of long tables overflow the processor's cache; one after the
    # other is then up to four times faster, and gives the same values.
    return jax.lax.map(stream, keys) if num_rows > _LOOP_ABOVE else jax.vmap(stream)(keys)


def standardise(columns: Array, row_mask: Array, fallback: Array) -> Array:
    """Scale columns to mean 0 and standard deviation 1 over the valid rows.

    Args:
        columns: ``(p, n)`` raw values.
        row_mask: ``(n,)`` boolean.
        fallback: ``(p, n)`` continuous values that replace a column which is constant to
            rounding, or not finite, over the valid rows: a constant column would say nothing
            about its coefficient and can't be scaled.

    Returns:
        ``(n, p)`` float32 table, zero on padded rows.
    """
    valid = jnp.asarray(row_mask, bool)[None, :]
    count = jnp.sum(valid, dtype=jnp.float32)
    columns = jnp.where(valid, columns, 0.0)
    mean, sd = _moments(columns, valid, count)
    largest = jnp.max(jnp.abs(columns), axis=1, keepdims=True)
    usable = jnp.isfinite(sd) & (sd > 1e-5 * largest) & (sd > 1e-15)
    columns = jnp.where(usable, (columns - mean) / jnp.where(usable, sd, 1.0), fallback)
    mean, sd = _moments(columns, valid, count)
    several = count > 1.5
    columns = (columns - jnp.where(several, mean, 0.0)) / jnp.where(several, sd, 1.0)
    return jnp.where(valid, columns, 0.0).astype(jnp.float32).T


def _moments(columns: Array, valid: Array, count: Array) -> tuple[Array, Array]:
    """Mean and standard deviation, each ``(p, 1)``, over the valid rows."""
    count = jnp.maximum(count, 1.0)
    mean = jnp.sum(jnp.where(valid, columns, 0.0), axis=1, keepdims=True) / count
    deviation = jnp.where(valid, columns - mean, 0.0)
    return mean, jnp.sqrt(jnp.sum(deviation * deviation, axis=1, keepdims=True) / count)
