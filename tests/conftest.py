"""Settings and fixtures shared by all tests."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

os.environ.setdefault("MPLBACKEND", "agg")  # no test opens a window

# The first example of a property pays for compilation, so a time limit per example would only
# measure that; the fixed example sequence makes a failure repeat itself.
settings.register_profile(
    "icl_bayes", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("icl_bayes")

# Tracing makes and drops many objects, and would have Python look for cycles among all of JAX's each time.
gc.set_threshold(100_000, 20, 100)

QUICK_TO_COMPILE = "--xla_cpu_use_fusion_emitters=false"
"""Fused kernels as XLA wrote them before: not the fastest to run, and quicker to compile."""


def pytest_configure(config: pytest.Config) -> None:
    """Compile without most optimizations where programs run for moments, which is most of what tests do.

    The variables have to be set before JAX is imported, hold for the whole process and for those it starts: a process
    that mixes both kinds of programs rounds in two ways, and no two runs of it would be bitwise alike.
    """
    if config.option.markexpr == "not slow and not gpu":
        os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
        flags = os.environ.get("XLA_FLAGS", "")
        if QUICK_TO_COMPILE not in flags:
            os.environ["XLA_FLAGS"] = f"{flags} {QUICK_TO_COMPILE}".strip()
        if "jax" in sys.modules:  # a plugin was first; what this process starts would then compile otherwise
            import jax

            jax.config.update("jax_disable_most_optimizations", os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] == "1")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip tests marked ``gpu`` where JAX has found no accelerator."""
    if item.get_closest_marker("gpu") is not None:
        import jax

        if jax.default_backend() == "cpu":
            pytest.skip("needs an accelerator; JAX sees only the CPU")


@pytest.fixture
def strict_rank_promotion() -> Iterator[None]:
    """Make silent broadcasting between different ranks an error while the test runs.

    A ``(batch,)`` loss term broadcast against ``(batch, 1)`` gives a plausible wrong number. The
    setting is scoped to the tests that ask for it because libraries underneath rely on promotion.
    """
    import jax

    with jax.numpy_rank_promotion("raise"):
        yield
