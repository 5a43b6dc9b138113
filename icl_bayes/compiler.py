"""How hard the compiler tries: a program that runs a few times should not be optimized for longer than it runs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import jax

Options = Mapping[str, bool | int]
"""Of the compiler."""
_LEVEL = "xla_backend_optimization_level"
QUICK_TO_COMPILE: Options = {_LEVEL: 0, "xla_cpu_use_fusion_emitters": False}
"""Options that spare a CPU three quarters of the work, for programs that run once: loops take ten times as long."""
LESS_OPTIMIZED: Options = {_LEVEL: 1}
"""Those that spare a third of it, and cost up to a quarter of the speed."""
HALF_OPTIMIZED: Options = {**LESS_OPTIMIZED, "xla_cpu_use_fusion_emitters": False}
"""Those that spare half of it; what is not one loop over many draws is hardly slower, what is up to three times."""


def compile_lowered(lowered: jax.stages.Lowered, options: Options | None = None) -> jax.stages.Compiled:
    """The program compiled with ``options`` for a CPU, or without them by a compiler that does not know them."""
    if options and jax.default_backend() == "cpu":
        declared: dict[str, Any] = dict(options)  # JAX declares str and bool, and takes numbers
        if jax.config.read("jax_disable_most_optimizations"):  # what spares most of the work would now add to it
            declared.pop(_LEVEL, None)
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            return lowered.compile(compiler_options=declared)
    return lowered.compile()


def compiled_once(fn: Callable[..., Any], *arguments: Any) -> Callable[..., Any]:
    """``fn`` for arguments of these shapes, as a program that runs a few times for milliseconds."""
    return compile_lowered(jax.jit(fn).lower(*arguments), QUICK_TO_COMPILE)
