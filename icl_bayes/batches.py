"""How many draws to compute side by side: with many rows, what is known of each row for all draws outgrows a cache."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

MANY_ROWS = 200
"""From so many rows on a CPU computes draws in batches; with fewer it gains nothing."""
_SIZES = range(64, 24, -1)
"""Batches tried, the largest first; all of the draws must fit into batches of one size, as each size is compiled."""


def draws_at_once(num_draws: int, padded_rows: int) -> int:
    """Size of a batch, a divisor of ``num_draws``: all of them on an accelerator, with few rows, or if none will do."""
    if jax.default_backend() != "cpu" or padded_rows < MANY_ROWS:
        return num_draws
    return next((size for size in _SIZES if num_draws % size == 0), num_draws)


def over_draws(function: Callable[..., Any], arguments: tuple[Any, ...], padded_rows: int) -> Any:
    """``function(*arguments)``, in batches where that is faster; traceable.

    Args:
        function: of arrays or trees of them, one entry per draw along their first axes, to the same; no result of a
            draw depends on another draw.
        arguments: stacked draws.
        padded_rows: of the data set that ``function`` looks at.
    """
    num_draws = len(jax.tree.leaves(arguments)[0])
    size = draws_at_once(num_draws, padded_rows)
    if size == num_draws:
        return function(*arguments)
    batches = jax.tree.map(lambda leaf: leaf.reshape(-1, size, *leaf.shape[1:]), arguments)
    results = jax.lax.map(lambda batch: function(*batch), batches)
    return jax.tree.map(lambda leaf: leaf.reshape(num_draws, *leaf.shape[2:]), results)
