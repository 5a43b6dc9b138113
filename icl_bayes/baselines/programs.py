"""Ahead-of-time compiled programs, so that compile time and run time are measured apart.

On a CPU a compiled program takes a thousand memory maps or more, of which Linux grants a process about
65,000. A process that goes through many tasks lets go of the programs of each one (:func:`release_programs`).
"""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Protocol
from weakref import WeakSet

import jax
import numpy as np

from icl_bayes.compiler import Options, compile_lowered
from icl_bayes.precision import full_precision

SLOW = 1.0
"""Seconds beyond which the extra time of a first call is not worth a second one."""


@dataclass(frozen=True)
class TimedCall:
    """What a compiled program returned (NumPy leaves) and what it cost in seconds."""

    outputs: Any
    seconds_compile: float
    seconds_run: float


class HoldsPrograms(Protocol):
    """Something that keeps compiled programs and can drop them; they are compiled again when needed."""

    def release(self) -> None: ...


_HOLDERS: WeakSet[HoldsPrograms] = WeakSet()
_LOCK = threading.Lock()


def register_holder(holder: HoldsPrograms) -> None:
    """Have ``holder.release()`` called by :func:`release_programs`, for as long as the holder lives."""
    with _LOCK:
        _HOLDERS.add(holder)


def release_programs() -> None:
    """Drop the compiled programs of all holders and of ``jax.jit``; nothing else is forgotten."""
    with _LOCK:
        holders = list(_HOLDERS)
    for holder in holders:
        holder.release()
    jax.clear_caches()
    gc.collect()


class ProgramCache:
    """Compiled programs of one sampler, one for each purpose and each set of argument shapes.

    ``jax.jit`` would hide compilation inside the first call. Here it is a step of its own, and a
    second data set of the same shapes compiles nothing.

    Args:
        options: of the compiler, for programs that are given none of their own.
    """

    def __init__(self, options: Options | None = None) -> None:
        self._options = options
        self._programs: dict[Hashable, Any] = {}
        register_holder(self)

    def release(self) -> None:
        """Drop all programs."""
        self._programs.clear()

    def __len__(self) -> int:
        """Number of programs compiled so far."""
        return len(self._programs)

    def keep(self, key: Hashable, make: Callable[[], Any]) -> tuple[Any, bool]:
        """Something else that holds compiled programs, made where it is not kept yet, and whether it was made now."""
        is_new = key not in self._programs
        if is_new:
            self._programs[key] = make()
        return self._programs[key], is_new

    @full_precision
    def run(
        self,
        purpose: Hashable,
        function: Callable[..., Any],
        *args: Any,
        options: Options | None = None,
    ) -> TimedCall:
        """Call ``function(*args)``, compiled, and wait until its result is on the host.

        The first call of a program takes tens of milliseconds more than others. Where that shows it is made
        twice, and the second one is timed.

        Args:
            purpose: what, beside the argument shapes, tells two programs apart: every Python
                value that ``function`` closes over.
            function: a traceable function of arrays, pytrees and random keys.
            *args: its arguments; NumPy arrays are cast to the width JAX is set to.
            options: of the compiler (:mod:`icl_bayes.compiler`), by default those of the cache. The first call of a
                program that has any is made once: it is not one whose speed is measured.
        """
        started = time.perf_counter()
        args = jax.tree.map(_canonical, args)
        leaves, structure = jax.tree.flatten(args)
        options = self._options if options is None else options
        how = None if options is None else tuple(options.items())
        signature = (purpose, how, structure, tuple((leaf.shape, leaf.dtype) for leaf in leaves))
        compiled = self._programs.get(signature)
        seconds_compile = 0.0
        if compiled is None:
            compiled = compile_lowered(jax.jit(function).lower(*args), options)
            self._programs[signature] = compiled
            seconds_compile, started = time.perf_counter() - started, time.perf_counter()
        outputs = jax.device_get(jax.block_until_ready(compiled(*args)))
        seconds_run = time.perf_counter() - started
        if seconds_compile and seconds_run < SLOW and options is None:
            started = time.perf_counter()
            jax.device_get(jax.block_until_ready(compiled(*args)))
            seconds_run = time.perf_counter() - started
        return TimedCall(outputs, seconds_compile, seconds_run)


def _canonical(leaf: Any) -> Any:
    if isinstance(leaf, jax.Array):
        return leaf
    array = np.asarray(leaf)
    return array.astype(jax.dtypes.canonicalize_dtype(array.dtype), copy=False)
