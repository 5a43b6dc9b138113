"""One observation law whose family is data: for networks that are trained on all families at once.

The laws are those of :data:`icl_bayes.tasks.regression.RESPONSES`, written together so that what they share is
computed, and compiled, once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from numpyro.distributions import constraints

from icl_bayes.tasks.distributions import exponential_excess, log_gamma_constant, log_relative_excess
from icl_bayes.tasks.information import log_shape_information
from icl_bayes.tasks.regression import RESPONSES
from icl_bayes.types import Array

CODES = tuple(RESPONSES)
"""Families in the order of their codes."""
MAX_TRIALS = 20
_LARGEST_EXPONENT, _LARGEST_LOG_RATE = 80.0, 20.0


class AnyResponse(dist.Distribution):
    """The law of responses of the family with the given code; those of gamma laws are logarithms.

    Args:
        code: ``()``, of the family, see :data:`CODES`.
        linear: ``(n,)`` linear predictor.
        dispersion: ``()``; of no effect for families without.
        rows: ``trials`` and ``precision``, ``(n,)``.
    """

    arg_constraints: ClassVar = {}
    support = constraints.real  # pyright: ignore[reportAssignmentType]  # NumPyro: "as a class attribute or as a property"

    def __init__(self, code: Any, linear: Array, dispersion: Any, rows: Mapping[str, Any]) -> None:
        is_of = {name: code == index for index, name in enumerate(CODES)}
        self.is_gaussian, self.is_overdispersed = is_of["gaussian"], is_of["negative_binomial"]
        self.is_binary = is_of["bernoulli"] | is_of["binomial"]
        self.is_count = is_of["poisson"] | self.is_overdispersed
        self.is_gamma = is_of["gamma"] | is_of["gamma_variance"]
        self.linear = jnp.asarray(linear)
        self.trials = jnp.where(is_of["binomial"], jnp.asarray(rows["trials"]), 1.0)
        # Families that are not meant see harmless values, so that gradients through the choice stay finite.
        self.dispersion = jnp.where(self.is_binary | is_of["poisson"], 1.0, dispersion)
        self.squared_scale = self.dispersion**2 / jnp.asarray(rows["precision"])
        exponent = jnp.where(is_of["gamma_variance"], 2.0, 1.0) * jnp.where(self.is_count | self.is_gamma, linear, 0.0)
        exponential = jnp.exp(jnp.clip(exponent, -_LARGEST_EXPONENT, _LARGEST_EXPONENT))
        self.rate = jnp.where(self.is_count, exponential, 1.0)
        self.concentration = jnp.where(is_of["gamma_variance"], exponential / self.dispersion**2, 1.0 / self.dispersion)
        super().__init__(batch_shape=self.linear.shape, validate_args=False)

    def _choose(self, gaussian: Array, binary: Array, count: Array, gamma: Array) -> Array:
        return jnp.select([self.is_gaussian, self.is_binary, self.is_count], [gaussian, binary, count], gamma)

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        shape = (*sample_shape, *self.batch_shape)
        keys = jax.random.split(key, 4)
        gaussian = self.linear + jnp.sqrt(self.squared_scale) * jax.random.normal(keys[0], shape)
        uniforms = jax.random.uniform(keys[1], (MAX_TRIALS, *shape))
        counted = jnp.arange(MAX_TRIALS).reshape(-1, *(1,) * len(shape)) < self.trials
        binary = jnp.sum((uniforms < jax.nn.sigmoid(self.linear)) & counted, axis=0).astype(jnp.float32)
        concentration = jnp.broadcast_to(self.concentration, shape)
        log_factor = jax.random.loggamma(keys[2], concentration) - jnp.log(concentration)
        log_rate = self.linear + jnp.where(self.is_overdispersed, log_factor, 0.0)
        log_rate = jnp.where(self.is_count, jnp.minimum(log_rate, _LARGEST_LOG_RATE), 0.0)
        count = jax.random.poisson(keys[3], jnp.exp(log_rate), shape).astype(jnp.float32)
        return self._choose(gaussian, binary, count, self.linear + log_factor)

    def log_prob(self, value: Any, intermediates: Any = None) -> Array:
        """Up to terms that no parameter has a part in, such as factorials."""
        del intermediates
        gaussian = -0.5 * (value - self.linear) ** 2 / self.squared_scale - jnp.log(self.dispersion)
        binary = value * self.linear - self.trials * jax.nn.softplus(self.linear)
        y = jnp.where(self.is_count, value, 0.0)
        a = jnp.where(self.is_overdispersed | self.is_gamma, self.concentration, 1.0)
        constant = log_gamma_constant(a)
        overdispersed = (a + y) * log_relative_excess(a, y, self.rate) + constant - log_gamma_constant(a + y)
        count = y * self.linear + jnp.where(self.is_overdispersed, overdispersed, -self.rate)
        gamma = constant - a * exponential_excess(jnp.where(self.is_gamma, value - self.linear, 0.0))
        return self._choose(gaussian, binary, count, gamma)

    def orthogonal_parameters(self) -> tuple[Array, ...]:
        """The linear predictor, and the logarithm of a scale or of a concentration."""
        second = jnp.where(self.is_gaussian, jnp.log(self.dispersion), jnp.log(self.concentration))
        return self.linear, jnp.broadcast_to(second, self.linear.shape)

    def information(self) -> tuple[Array, ...]:
        """As in :func:`icl_bayes.tasks.information.observation_information`."""
        share = jax.nn.sigmoid(self.linear)
        excess = jnp.where(self.is_overdispersed, self.rate / (self.concentration + self.rate), 0.0)
        first = self._choose(
            1.0 / self.squared_scale,
            self.trials * share * (1.0 - share),
            self.rate * (1.0 - excess),
            self.concentration,
        )
        on_shape = jnp.broadcast_to(log_shape_information(self.concentration), first.shape)
        two, none = jnp.full_like(first, 2.0), jnp.zeros_like(first)
        return first, self._choose(two, none, excess**2 * on_shape, on_shape)
