"""Regression losses whose minimizer is the marginal velocity of a path.

One example is one draw: ``(dim,)`` vectors and a scalar time. Batches come from ``vmap``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from icl_bayes.flow.bases import Affine
from icl_bayes.flow.paths import Path

Array = jax.Array
Velocity = Callable[[Array, Array], Array]
"""``(t (), x (dim,)) -> velocity (dim,)``."""

Spread = Callable[[Array, Array, Array, Array], Array]
"""``(x (dim,), alpha (), sigma (), vector (dim,)) -> (dim,)``: a guess of the covariance of ``x_1`` given
``x = alpha x_1 + sigma x_0``, times the vector; linear in the vector."""

LOSSES = ("flow_matching", "target_score", "stable_target", "stein_target")
DIVERGENCES = ("hellinger",)
"""What a network may be trained on beside them: no regression, but the distance of its draws from the target
(:mod:`icl_bayes.flow.divergence`)."""


class Example(NamedTuple):
    """One regression example.

    Attributes:
        t: ``()`` time.
        x0: ``(dim,)`` base noise.
        x1: ``(dim,)`` a draw of the target, in the coordinates of the base.
        residual_score: ``(dim,)``, gradient of ``log target - log N(0, I)`` at ``x1``; zeros when
            the likelihood is not available.
    """

    t: Array
    x0: Array
    x1: Array
    residual_score: Array


class Pool(NamedTuple):
    """Draws of the target that stand for its whole law.

    Attributes:
        draws: ``(num_draws, dim)``, in the coordinates of the base.
        log_weights: ``(num_draws,)``, up to a constant.
        scores: ``(num_draws, dim)``, gradient of the target's log density at the draws; for ``stein_target``.
    """

    draws: Array
    log_weights: Array
    scores: Array | None = None


def stratified_times(rng_key: Array, num: int, final_time: float = 1.0) -> Array:
    """``num`` times in (0, final_time), one per stratum in random order, ``(num,)``."""
    offset_key, order_key = jax.random.split(rng_key)
    offsets = jax.random.uniform(offset_key, (num,))
    return final_time * jax.random.permutation(order_key, (jnp.arange(num) + offsets) / num)


def flow_matching_loss(
    path: Path, velocity_fn: Velocity, example: Example, pool: Pool | None = None, spread: Spread | None = None
) -> Array:
    """Squared error to the conditional velocity (Lipman et al., 2023), mean over coordinates, ``()``."""
    del pool, spread
    x, target = path.interpolate(example.t, example.x0, example.x1)
    return jnp.mean((velocity_fn(example.t, x) - target) ** 2)


def target_score_loss(
    path: Path, velocity_fn: Velocity, example: Example, pool: Pool | None = None, spread: Spread | None = None
) -> Array:
    """Squared error to the velocity built from the target's score at ``x1``, ``()``.

    Because ``v = drift x + gain E[residual score at x_1 | x_t]`` (see :mod:`icl_bayes.flow.paths`), the
    residual score is as valid a regression target as the conditional velocity, and its
    conditional variance vanishes for Gaussian posteriors, where flow matching's does not (the
    flow-matching form of target score matching; De Bortoli et al., 2024).
    """
    del pool, spread
    x, _ = path.interpolate(example.t, example.x0, example.x1)
    target = path.drift(example.t) * x + path.gain(example.t) * example.residual_score
    return jnp.mean((velocity_fn(example.t, x) - target) ** 2)


def stable_target_loss(
    path: Path, velocity_fn: Velocity, example: Example, pool: Pool | None = None, spread: Spread | None = None
) -> Array:
    """Squared error to the mean of the conditional velocities of a whole pool given ``x_t``, ``()``.

    What flow matching regresses on is one draw of the conditional velocity given ``x_t``. Several draws of the same
    target, each weighted by how well it explains ``x_t``, have a mean with a fraction of that variance (Xu, Tong and
    Jaakkola, 2023). The pool should hold ``x1`` itself; the bias is of the order of one over its size.
    """
    del spread
    if pool is None:
        raise ValueError("The loss stable_target needs a pool of draws beside the example.")
    x, _ = path.interpolate(example.t, example.x0, example.x1)
    return _error_of_mean(path, velocity_fn, example.t, x, _weights(path, pool, example.t, x) @ pool.draws)


def stein_target_loss(
    path: Path, velocity_fn: Velocity, example: Example, pool: Pool | None = None, spread: Spread | None = None
) -> Array:
    """The stable target with Stein's identity as a control variate, ``()``.

    The score of ``p(x_1 | x_t)``, which is ``score(x_1) + alpha (x_t - alpha x_1) / sigma^2``, has mean zero, so that
    adding a matrix ``C(x_t)`` times it to every ``x_1`` leaves the mean that is regressed on as it is, whatever the
    matrix. With ``C`` the covariance of ``x_1`` given ``x_t`` and a Gaussian target, the sum is the mean itself. Near
    the data, where a pool shrinks to the one draw that explains ``x_t``, this is what takes the noise out; near the
    noise, where a pool does well by itself and a target of several modes is no Gaussian, it is faded out.

    Args:
        spread: the guess of that covariance. It must not depend on ``x_1``; one too small does little, one too
            large adds noise.
    """
    if pool is None or pool.scores is None or spread is None:
        raise ValueError("The loss stein_target needs a pool of draws with their scores, and a spread.")
    x, _ = path.interpolate(example.t, example.x0, example.x1)
    alpha, sigma, _, _ = path.coefficients(example.t)
    scores = pool.scores + alpha / sigma**2 * (x[None, :] - alpha * pool.draws)
    weights = _weights(path, pool, example.t, x)
    mean = weights @ pool.draws + _fade(alpha, sigma) * spread(x, alpha, sigma, weights @ scores)
    return _error_of_mean(path, velocity_fn, example.t, x, mean)


def _fade(alpha: Array, sigma: Array) -> Array:
    """Share of the control variate, from 0 at noise to 1 at the data, ``()``: about the best one for mixtures."""
    noise = sigma**2 / (alpha**2 + sigma**2)
    return (1.0 - noise) / (1.0 - noise + noise**3)


def _weights(path: Path, pool: Pool, t: Array, x: Array) -> Array:
    """How well every draw of a pool explains ``x_t = x``, ``(num_draws,)``, summing to one."""
    alpha, sigma, _, _ = path.coefficients(t)
    distances = jnp.sum(((x[None, :] - alpha * pool.draws) / sigma) ** 2, axis=1)
    return jax.nn.softmax(pool.log_weights - 0.5 * distances)


def _error_of_mean(path: Path, velocity_fn: Velocity, t: Array, x: Array, mean: Array) -> Array:
    """Squared error of the velocity to the one that a mean of ``x_1`` given ``x_t`` implies, ``()``."""
    alpha, sigma, alpha_dot, sigma_dot = path.coefficients(t)
    return jnp.mean((velocity_fn(t, x) - alpha_dot * mean - sigma_dot / sigma * (x - alpha * mean)) ** 2)


_LOSS_FUNCTIONS = {
    "flow_matching": flow_matching_loss,
    "target_score": target_score_loss,
    "stable_target": stable_target_loss,
    "stein_target": stein_target_loss,
}


DEGREES_OF_FREEDOM = 40.0


def student_loss(standardized: Array) -> Array:
    """Minus the log density of a multivariate t law, up to a constant, mean over draws, ``()``.

    With this many degrees of freedom its optimum is within two percent of the Gaussian one, but a data set
    that is badly fitted early in training pulls with bounded force instead of drowning the others.

    Args:
        standardized: ``(..., dim)`` draws in the coordinates in which the fitted law is standard.
    """
    dim = standardized.shape[-1]
    squares = jnp.sum(standardized**2, axis=-1)
    return jnp.mean(0.5 * (DEGREES_OF_FREEDOM + dim) * jnp.log1p(squares / DEGREES_OF_FREEDOM))


LEAST_RESIDUAL = 0.05
"""Mean square of residual scores below which posteriors count alike in a balanced loss."""
LOSS_KNEE = 4.0
"""Of a data set, in a balanced loss, beyond which it grows like a logarithm: one misfit must not set the direction."""


def balanced_loss(loss: Array, log_density_fn: Callable[[Array], Array], affine: Affine, noise: Array) -> Array:
    """The loss of a data set relative to how far its posterior is from its base, ``()``.

    It is judged at draws ``noise (num_draws, dim)`` of the base, without a look at the targets, so that for every data
    set the minimizer stays what it was.
    """

    def residual(u: Array) -> Array:
        return jax.grad(affine.pulled_back(log_density_fn))(u) + u

    residuals = jax.vmap(residual)(noise)
    squares = jnp.where(jnp.isfinite(residuals), residuals, 0.0) ** 2
    weight = jax.lax.stop_gradient(1.0 / (LEAST_RESIDUAL + jnp.mean(squares)))
    return LOSS_KNEE * jnp.log1p(weight * loss / LOSS_KNEE)


def make_loss(name: str) -> Callable[..., Array]:
    """``(path, velocity_fn, example, pool, spread) -> ()`` by name; an unknown one is a ValueError with the choices.

    Pool and spread may be left out where the loss has no use for them.
    """
    if name not in LOSSES:
        raise ValueError(f"Unknown loss {name!r}; choices: {sorted(LOSSES)}.")
    return _LOSS_FUNCTIONS[name]
