"""Ahead-of-time compiled programs, so that compile time and run time are measured apart."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np


@dataclass(frozen=True)
class TimedCall:
    """What a compiled program returned (NumPy leaves) and what it cost in seconds."""

    outputs: Any
    seconds_compile: float
    seconds_run: float


class ProgramCache:
    """Compiled programs of one sampler, one for each purpose and each set of argument shapes.

    ``jax.jit`` would hide compilation inside the first call. Here it is a step of its own, and a
    second data set of the same shapes compiles nothing.
    """

    def __init__(self) -> None:
        self._programs: dict[Hashable, Callable[..., Any]] = {}

    def __len__(self) -> int:
        """Number of programs compiled so far."""
        return len(self._programs)

    def run(self, purpose: Hashable, function: Callable[..., Any], *args: Any) -> TimedCall:
        """Call ``function(*args)``, compiled, and wait until its result is on the host.

        Args:
            purpose: what, beside the argument shapes, tells two programs apart: every Python
                value that ``function`` closes over.
            function: a traceable function of arrays, pytrees and random keys.
            *args: its arguments; NumPy arrays are cast to the width JAX is set to.
        """
        started = time.perf_counter()
        args = jax.tree.map(_canonical, args)
        leaves, structure = jax.tree.flatten(args)
        signature = (purpose, structure, tuple((leaf.shape, leaf.dtype) for leaf in leaves))
        compiled = self._programs.get(signature)
        seconds_compile = 0.0
        if compiled is None:
            compile_started = time.perf_counter()
            compiled = jax.jit(function).lower(*args).compile()
            self._programs[signature] = compiled
            seconds_compile = time.perf_counter() - compile_started
        outputs = jax.device_get(jax.block_until_ready(compiled(*args)))
        return TimedCall(outputs, seconds_compile, time.perf_counter() - started - seconds_compile)


def _canonical(leaf: Any) -> Any:
    if isinstance(leaf, jax.Array):
        return leaf
    array = np.asarray(leaf)
    return array.astype(jax.dtypes.canonicalize_dtype(array.dtype), copy=False)
