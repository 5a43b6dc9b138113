"""One observation law whose family is data: for networks that are trained on all families at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from icl_bayes.tasks.distributions import MixedLaw
from icl_bayes.tasks.regression import RESPONSES
from icl_bayes.types import Array

CODES = tuple(RESPONSES)
"""Families in the order of their codes."""
MAX_TRIALS = 20


class AnyResponse(MixedLaw):
    """The law of responses of the family with the given code; those of gamma laws are logarithms.

    Args:
        code: ``()``, of the family, see :data:`CODES`.
        linear: ``(n,)`` linear predictor.
        dispersion: ``()``; of no effect for families without.
        rows: ``trials`` and ``precision``, ``(n,)``.
    """

    def __init__(self, code: Any, linear: Array, dispersion: Any, rows: Mapping[str, Any]) -> None:
        self.trials = jnp.asarray(rows["trials"])
        laws = []
        for index, family in enumerate(RESPONSES.values()):
            own = code == index  # other families see harmless values, for the gradients' sake
            safe = jnp.where(own, dispersion, 1.0) if family.dispersion else None
            laws.append(family.law(jnp.where(own, linear, 0.0), safe, dict(rows)))
        super().__init__(code, laws)

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        keys = jax.random.split(key, len(CODES))
        drawn = []
        for name, law, one in zip(CODES, self.laws, keys, strict=True):
            if name == "binomial":  # by its trials, which are few
                uniforms = jax.random.uniform(one, (MAX_TRIALS, *sample_shape, *self.batch_shape))
                counted = jnp.arange(MAX_TRIALS).reshape(-1, *(1,) * (uniforms.ndim - 1)) < self.trials
                drawn.append(jnp.sum((uniforms < jax.nn.sigmoid(law.logits)) & counted, axis=0).astype(jnp.float32))
            else:
                drawn.append(jnp.asarray(law.sample(one, sample_shape), jnp.float32))
        return self.choose(drawn)
