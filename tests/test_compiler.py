"""Options of the compiler reach it where they help, and a compiler without them still compiles."""

from __future__ import annotations

from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from icl_bayes.compiler import HALF_OPTIMIZED, compile_lowered, compiled_once


class Recorder:
    """In the place of a lowered program; refuses options if told to."""

    def __init__(self, *, refuses: bool = False) -> None:
        self.received: list[dict[str, Any] | None] = []
        self.refuses = refuses

    def compile(self, compiler_options: dict[str, Any] | None = None) -> str:
        self.received.append(compiler_options)
        if self.refuses and compiler_options is not None:
            raise jax.errors.JaxRuntimeError("No such compile option")
        return "compiled"


@pytest.fixture
def optimizing() -> Any:
    """Sets whether JAX leaves out most optimizations anyway."""
    before = jax.config.read("jax_disable_most_optimizations")
    yield lambda value: jax.config.update("jax_disable_most_optimizations", not value)
    jax.config.update("jax_disable_most_optimizations", before)


def compiled(recorder: Recorder) -> Any:
    return compile_lowered(cast(Any, recorder), HALF_OPTIMIZED)


def test_options_do_not_raise_the_level_where_optimizations_are_off(optimizing, monkeypatch) -> None:
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    for is_optimizing in (True, False):
        optimizing(is_optimizing)
        recorder = Recorder()
        assert compiled(recorder) == "compiled"
        (received,) = recorder.received
        assert received is not None
        assert ("xla_backend_optimization_level" in received) == is_optimizing
        assert received["xla_cpu_use_fusion_emitters"] is False


def test_a_compiler_that_does_not_know_options_goes_without() -> None:
    recorder = Recorder(refuses=True)
    assert compiled(recorder) == "compiled"
    assert recorder.received[-1] is None


def test_what_is_compiled_once_computes_the_same() -> None:
    x = np.linspace(-2.0, 2.0, 9, dtype=np.float32)
    np.testing.assert_allclose(compiled_once(jnp.tanh, x)(x), np.tanh(x), rtol=1e-5)
