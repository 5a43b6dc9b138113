"""Compiled programs are let go of on request, and with them the memory maps that a process may hold few of."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from icl_bayes.baselines.programs import (
    ProgramCache,
    register_holder,
    release_programs,
)
from icl_bayes.compiler import LESS_OPTIMIZED, QUICK_TO_COMPILE

MAPS = Path("/proc/self/maps")


def fill(cache: ProgramCache, count: int) -> list[np.ndarray]:
    def program(x: jax.Array, seed: int) -> jax.Array:
        matrix = jnp.outer(x, x) + (1.0 + seed) * jnp.eye(5)
        return jnp.sort(jnp.linalg.solve(matrix, jnp.cumsum(jnp.sin(x))))

    x = np.arange(5, dtype=np.float32)
    return [cache.run(seed, lambda x, seed=seed: program(x, seed), x).outputs for seed in range(count)]


def test_released_programs_are_compiled_again_and_give_the_same() -> None:
    cache = ProgramCache()
    before = fill(cache, 3)
    assert len(cache) == 3
    release_programs()
    assert len(cache) == 0
    np.testing.assert_array_equal(before, fill(cache, 3))


@pytest.mark.skipif(not MAPS.exists(), reason="memory maps are counted where /proc shows them")
def test_releasing_gives_memory_maps_back() -> None:
    def num_maps() -> int:
        return len(MAPS.read_text().splitlines())

    cache = ProgramCache()
    release_programs()
    start = num_maps()
    fill(cache, 12)
    full = num_maps()
    assert full > start + 24, "Programs take maps; otherwise there is nothing to release."
    release_programs()
    assert num_maps() - start < 0.3 * (full - start)


def test_any_holder_is_asked_while_it_lives() -> None:
    class Holder:
        asked = 0

        def release(self) -> None:
            Holder.asked += 1

    holder = Holder()
    register_holder(holder)
    release_programs()
    assert Holder.asked == 1
    del holder
    release_programs()
    assert Holder.asked == 1


def test_a_program_compiled_in_a_hurry_is_another_one_with_the_same_results() -> None:
    cache = ProgramCache()
    x = np.linspace(-2.0, 2.0, 64, dtype=np.float32)
    plain, hasty, again = (
        cache.run("p", lambda x: jnp.cumsum(jnp.tanh(x) ** 2), x, options=options)
        for options in (None, QUICK_TO_COMPILE, dict(QUICK_TO_COMPILE))
    )
    assert len(cache) == 2
    assert again.seconds_compile == 0.0
    np.testing.assert_allclose(plain.outputs, hasty.outputs, rtol=1e-5)
    assert np.all(np.diff(plain.outputs) >= 0.0)


def test_the_first_call_of_a_quick_program_is_not_the_one_timed() -> None:
    calls = []

    def counted(x: jax.Array) -> jax.Array:
        jax.debug.callback(lambda: calls.append(1))
        return 2.0 * x

    cache = ProgramCache()
    first = cache.run("p", counted, np.ones(3, np.float32))
    jax.effects_barrier()
    assert len(calls) == 2
    assert first.seconds_compile > 0.0
    again = cache.run("p", counted, np.ones(3, np.float32))
    jax.effects_barrier()
    assert len(calls) == 3
    assert again.seconds_compile == 0.0


def test_options_of_a_cache_are_those_of_programs_without_their_own() -> None:
    cache, x = ProgramCache(LESS_OPTIMIZED), np.ones(3, np.float32)
    cache.run("p", jnp.tanh, x)
    assert cache.run("p", jnp.tanh, x, options=LESS_OPTIMIZED).seconds_compile == 0.0
    assert cache.run("p", jnp.tanh, x, options=QUICK_TO_COMPILE).seconds_compile > 0.0
    assert len(cache) == 2
