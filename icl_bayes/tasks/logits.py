"""Laws with logits, with the slope that their density has where the logits are zero.

NumPyro 0.22 clips logits at zero in the densities of ``BernoulliLogits`` and ``BinomialLogits``, and JAX gives a clip
no slope at its edge: there the gradient is off by half of the trials. Searches for a mode start at zero.
"""

from __future__ import annotations

import copy

import jax.numpy as jnp
import numpyro.distributions as dist

WRAPPERS = (dist.Independent, dist.ExpandedDistribution, dist.MaskedDistribution)
"""What ``to_event``, ``expand``, plates and masks put around a law."""
NOT_ZERO = 1e-20
"""Changes no logit but zero itself."""


def with_slope_at_zero(law: dist.Distribution) -> dist.Distribution:
    """The law, if it has logits with none that is exactly zero; any other as it is."""
    if isinstance(law, WRAPPERS):
        inner = with_slope_at_zero(law.base_dist)
        if inner is law.base_dist:
            return law
        changed = copy.copy(law)
        changed.base_dist = inner
        return changed
    if isinstance(law, (dist.BernoulliLogits, dist.BinomialLogits)):
        changed = copy.copy(law)
        changed.logits = jnp.asarray(law.logits) + NOT_ZERO
        return changed
    return law
