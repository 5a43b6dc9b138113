"""Five tasks of the benchmark of simulation-based inference (Lueckmann et al., 2021), as NumPyro models.

Each is written from the publication's appendix (T.1 and so on), with parameters in the order of the published draws:
one site ``parameters``, and an observation ``x`` of a fixed number of rows. Published draws to compare with, and
networks trained for them: ``icl-bayes reproduce table=sbibm``.
"""

# pyright: reportIndexIssue=false, reportOperatorIssue=false, reportArgumentType=false, reportCallIssue=false
from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.distributions import constraints

from icl_bayes.tasks import CUSTOM, Task
from icl_bayes.types import Array

PARAMETERS = "parameters"
STIMULUS_SEED, STIMULUS_LENGTH, FILTER_LENGTH = 42, 100, 9
MOON_OFFSET, MOON_RADIUS, MOON_WIDTH = 0.25, 0.1, 0.01
ANGLE_HALF = float(np.sqrt(0.5))
JITTER = 1e-6


# ---------------------------------------------------------------------------- models


def gaussian_linear_model(x=None):
    """T.1: the mean of ten Gaussian variables, prior and noise of variance 0.1 each."""
    scale = float(np.sqrt(0.1))
    theta = numpyro.sample(PARAMETERS, dist.Normal(0.0, scale).expand([10]).to_event(1))
    numpyro.sample("x", dist.Normal(theta[None], scale).to_event(2), obs=x)


def bernoulli_glm_model(design, x=None):
    """T.3, T.4: a filter of nine coefficients, smooth a priori, and an offset, from 100 spikes or none.

    Published observations are the sufficient statistics of the spikes. Both have the same posterior.
    """
    precision = jnp.asarray(filter_precision(), jnp.float32)
    theta = numpyro.sample(PARAMETERS, dist.MultivariateNormal(jnp.zeros(len(precision)), precision_matrix=precision))
    with numpyro.plate("times", len(design)):
        numpyro.sample("x", dist.Bernoulli(logits=design @ theta), obs=x)


def gaussian_mixture_model(x=None):
    """T.7: the common mean of two Gaussians of standard deviations 1 and 0.1, uniform on a square."""
    theta = numpyro.sample(PARAMETERS, dist.Uniform(-10.0, 10.0).expand([2]).to_event(1))
    scales = jnp.asarray([1.0, 0.1])[:, None]
    parts = dist.Normal(jnp.stack([theta, theta]), scales).to_event(1)
    numpyro.sample("x", dist.MixtureSameFamily(dist.Categorical(probs=jnp.full(2, 0.5)), parts).expand([1]), obs=x)


def slcp_model(x=None):
    """T.5: simple likelihood, complex posterior; four points of a Gaussian with squared scales, uniform on a cube."""
    theta = numpyro.sample(PARAMETERS, dist.Uniform(-3.0, 3.0).expand([5]).to_event(1))
    with numpyro.plate("rows", 4):
        numpyro.sample("x", CorrelatedPair(theta[:2], theta[2:4] ** 2, jnp.tanh(theta[4])), obs=x)


class CorrelatedPair(dist.Distribution):
    """Two Gaussian variables of means and scales ``(2,)`` and a correlation ``()``, without a factorization."""

    arg_constraints: ClassVar = {
        "loc": constraints.real_vector,
        "scale": constraints.real_vector,
        "correlation": constraints.interval(-1.0, 1.0),
    }
    support = constraints.real_vector  # pyright: ignore[reportAssignmentType]
    reparametrized_params: ClassVar = ["loc", "scale", "correlation"]

    def __init__(self, loc: Array, scale: Array, correlation: Array, *, validate_args: bool | None = None) -> None:
        self.loc, self.scale, self.correlation = loc, scale, correlation
        super().__init__(jnp.shape(correlation), (2,), validate_args=validate_args)

    def _scales(self) -> tuple[Array, Array]:
        """Scales ``(2,)``, kept above zero by a nugget on the covariance's diagonal, and the correlation left."""
        scale = jnp.sqrt(self.scale**2 + JITTER)
        return scale, self.correlation * jnp.prod(self.scale / scale, axis=-1)

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        scale, correlation = self._scales()
        first, second = jnp.moveaxis(jax.random.normal(key, (*sample_shape, *self.batch_shape, 2)), -1, 0)
        noise = jnp.stack([first, correlation * first + jnp.sqrt(1.0 - correlation**2) * second], axis=-1)
        return self.loc + scale * noise

    def log_prob(self, value: Array) -> Array:
        scale, correlation = self._scales()
        first, second = jnp.moveaxis((value - self.loc) / scale, -1, 0)
        left = 1.0 - correlation**2
        squares = first**2 + (second - correlation * first) ** 2 / left
        return -0.5 * (squares + jnp.log(left)) - jnp.sum(jnp.log(scale), axis=-1) - jnp.log(2.0 * jnp.pi)


class Crescent(dist.Distribution):
    """Half a ring around ``center`` ``(2,)``: an angle uniform over the right half plane, a Gaussian radius."""

    arg_constraints: ClassVar = {"center": constraints.real_vector}
    support = constraints.real_vector  # pyright: ignore[reportAssignmentType]
    reparametrized_params: ClassVar = ["center"]

    def __init__(self, center: Array, *, validate_args: bool | None = None) -> None:
        self.center = center
        super().__init__(jnp.shape(center)[:-1], jnp.shape(center)[-1:], validate_args=validate_args)

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        angle_key, radius_key = jax.random.split(key)
        shape = (*sample_shape, *self.batch_shape)
        angle = jax.random.uniform(angle_key, shape, minval=-0.5 * jnp.pi, maxval=0.5 * jnp.pi)
        radius = MOON_RADIUS + MOON_WIDTH * jax.random.normal(radius_key, shape)
        return self.center + radius[..., None] * jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=-1)

    def log_prob(self, value: Array) -> Array:
        """In polar coordinates, area element included; a negative radius (ten standard deviations) is neglected."""
        right, up = jnp.moveaxis(value - self.center, -1, 0)
        radius = jnp.sqrt(right**2 + up**2 + 1e-12)
        radial = dist.Normal(MOON_RADIUS, MOON_WIDTH).log_prob(radius)
        return jnp.where(right > 0.0, radial - jnp.log(jnp.pi * radius), -jnp.inf)


def two_moons_model(x=None):
    """T.8: a crescent whose place does not change when theta is mirrored; two crescents are the posterior."""
    theta = numpyro.sample(PARAMETERS, dist.Uniform(-1.0, 1.0).expand([2]).to_event(1))
    shift = jnp.stack([-jnp.abs(theta[0] + theta[1]), theta[1] - theta[0]]) * ANGLE_HALF
    numpyro.sample("x", Crescent((shift + jnp.asarray([MOON_OFFSET, 0.0]))[None]).to_event(1), obs=x)


# --------------------------------------------------------------- the spike train's design


def filter_precision() -> np.ndarray:
    """Prior precision ``(10, 10)`` of offset and filter: second differences of the filter are small."""
    size = FILTER_LENGTH
    difference = np.eye(size) - np.diag(np.ones(size - 1), -1)
    roughness = difference @ difference + np.diag(np.sqrt(np.arange(size) / size))
    precision = np.zeros((size + 1, size + 1))
    precision[0, 0] = 0.5
    precision[1:, 1:] = roughness.T @ roughness
    return precision


def filter_design() -> np.ndarray:
    """A one and the last nine values of the stimulus at each time, ``(100, 10)``; white noise of a published seed."""
    stimulus = np.random.RandomState(STIMULUS_SEED).randn(STIMULUS_LENGTH).astype(np.float32)
    lagged = [np.concatenate([np.zeros(lag, np.float32), stimulus[: len(stimulus) - lag]]) for lag in range(9)]
    return np.stack([np.ones_like(stimulus), *lagged], axis=1)


def _fixed_design(rng_key: Array, num_rows: int) -> dict[str, Array]:
    return {"design": jnp.asarray(filter_design())}


# ----------------------------------------------------------------------------- tasks


def gaussian_linear() -> Task:
    return _task("gaussian_linear", gaussian_linear_model, num_rows=1)


def bernoulli_glm() -> Task:
    def inputs(rng_key: Array, num_rows: int) -> dict[str, Array]:
        return {"design": jnp.asarray(filter_design())}

    return _task("bernoulli_glm", bernoulli_glm_model, inputs, num_rows=STIMULUS_LENGTH)


def gaussian_mixture() -> Task:
    return _task("gaussian_mixture", gaussian_mixture_model, num_rows=1)


def slcp() -> Task:
    return _task("slcp", slcp_model, num_rows=4, has_far_modes=True)


def two_moons() -> Task:
    return _task("two_moons", two_moons_model, num_rows=1, has_far_modes=True)


def _task(name: str, *model: Any, **options: Any) -> Task:
    """Named as on the command line."""
    return Task.from_numpyro(*model, name=f"{CUSTOM}/{__name__}:{name}", **options)


TASKS: dict[str, Callable[[], Task]] = {
    "gaussian_linear": gaussian_linear,
    "bernoulli_glm": bernoulli_glm,
    "gaussian_mixture": gaussian_mixture,
    "slcp": slcp,
    "two_moons": two_moons,
}
"""By their published names."""
