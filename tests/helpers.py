"""Assertions whose tolerance comes from Monte Carlo error, and moved weights. Use: ``from helpers import ...``."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import norm


def moved_weights(weights: Any, scale: float, seed: int = 0) -> Any:
    """A pytree of weights plus normal noise: layers that start at zero would hide mistakes in what they multiply.

    The noise is NumPy's, as JAX would compile a program for the shape of every leaf.
    """
    generator = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: jnp.asarray(np.asarray(leaf) + scale * generator.normal(size=leaf.shape), leaf.dtype), weights
    )


def joint_draw(task: Any, rng_key: Any, num_rows: int, padded_rows: int | None = None) -> Any:
    """``task.simulate`` as one program: operation by operation, JAX would compile one for each."""
    return jax.jit(task.simulate, static_argnums=(1, 2))(rng_key, num_rows, padded_rows)


def effective_sample_size(draws: Any) -> np.ndarray:
    """Number of independent draws worth as much for the mean, per component.

    Each chain is split in half, so that a drift within chains costs as much as a disagreement
    between them. Draws that are better than independent count as independent.

    Args:
        draws: ``(chain, draw, *shape)``.

    Returns:
        ``(*shape)``; zero where the halves are each constant but differ, and the number of draws
        where all draws are equal.
    """
    from numpyro.diagnostics import effective_sample_size as ess_of_chains

    values = np.asarray(draws, np.float64)
    num_chains, num_draws = values.shape[:2]
    half = num_draws // 2
    if half < 4:
        raise ValueError(f"Expected at least 8 draws per chain to judge their dependence; received {num_draws}.")
    halves = np.concatenate([values[:, :half], values[:, num_draws - half :]])
    constant = np.all(halves == halves[:, :1], axis=(0, 1))
    equal = np.all(halves == halves[:1, :1], axis=(0, 1))
    safe = np.where(constant, np.random.default_rng(0).normal(size=(*halves.shape[:2], *[1] * constant.ndim)), halves)
    ess = np.minimum(np.nan_to_num(ess_of_chains(safe)), num_chains * num_draws)
    return np.where(equal, num_chains * num_draws, np.where(constant, 0.0, ess))


def assert_mean_within_mcse(
    draws: Any,
    expected: Any,
    *,
    has_chain_axis: bool = False,
    expected_se: Any = 0.0,
    false_alarm: float = 1e-5,
    min_ess: float = 100.0,
    label: str = "mean",
) -> None:
    """Assert that draws have the expected mean, up to the error their number allows.

    The tolerance is ``z * sqrt(sd^2 / ess + expected_se^2)`` per component, with ``z`` chosen such
    that correct draws fail with probability ``false_alarm`` over all components together.

    Args:
        draws: ``(draw, *shape)``, or ``(chain, draw, *shape)`` with ``has_chain_axis``; may be dependent.
        expected: the true mean, ``(*shape)``. Pass ``draws**2`` or an indicator to test other moments.
        expected_se: standard error of ``expected`` where that is itself an estimate, ``()`` or ``(*shape)``.
        false_alarm: probability that correct draws fail.
        min_ess: draws worth less than this many independent ones fail: they could hide any error.
        label: what the message calls the quantity.

    Raises:
        AssertionError: if the mean is too far away, the draws are too few or not finite.
        ValueError: if shapes disagree.
    """
    values = np.asarray(draws, np.float64)
    values = values if has_chain_axis else values[None]
    target = np.asarray(expected, np.float64)
    if values.ndim < 2 or values.shape[2:] != target.shape:
        raise ValueError(f"{label}: draws of shape {values.shape[2:]} can't be compared with expected {target.shape}.")
    assert np.all(np.isfinite(values)), f"{label}: {np.sum(~np.isfinite(values))} values of the draws are not finite."

    ess = effective_sample_size(values)
    assert np.all(ess >= min_ess), (
        f"{label}: effective sample size {np.min(ess):.0f} is below {min_ess:.0f}; take more draws or better ones."
    )
    mcse = np.std(values, axis=(0, 1)) / np.sqrt(ess)
    z = norm.isf(false_alarm / (2 * max(target.size, 1)))
    rounding = 8 * np.finfo(np.float32).eps * np.max(np.abs(values), axis=(0, 1))  # draws come in float32
    tolerance = z * np.hypot(mcse, expected_se) + rounding
    error = np.abs(np.mean(values, axis=(0, 1)) - target)
    worst = np.unravel_index(np.argmax(error / np.maximum(tolerance, np.finfo(float).tiny)), target.shape)
    index = list(map(int, worst))
    assert np.all(error <= tolerance), (
        f"{label}{index or ''}: mean {np.mean(values, axis=(0, 1))[worst]:.6g}, expected {target[worst]:.6g}; "
        f"the difference of {error[worst]:.3g} exceeds {tolerance[worst]:.3g} = {z:.1f} standard errors "
        f"(effective sample size {ess[worst]:.0f})."
    )
