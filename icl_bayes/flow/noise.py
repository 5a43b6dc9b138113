"""The noise that draws start from, and its density."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from icl_bayes.flow.density import log_normal

Array = jax.Array
REACH = 1.2
"""By how much draws of the wide part are farther from zero on average, in any number of dimensions."""
_CHANCE = 3
"""Apart from what else the key of a draw is folded with."""


@dataclass(frozen=True)
class Noise:
    """N(0, I), of which a share may be wider in all directions: a defensive mixture (Hesterberg, 1995).

    A velocity is learned where draws are; far out its draws may get rare sooner than the posterior does, and a few of
    them then carry most of the importance weight. The wide share lets no weight grow that far, and moves the noise by a
    total variation of about half of it. Wide draws have the standard deviation ``1 + REACH / sqrt(dim)``, so that those
    of many dimensions are not all beyond the posterior.

    Attributes:
        wide_share: 0 for N(0, I) alone.
    """

    wide_share: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.wide_share <= 0.5:
            raise ValueError(
                f"flow.wide_share, of the noise that draws start from, must be between 0 and 0.5; received "
                f"{self.wide_share}."
            )

    def draw(self, rng_keys: Array, dim: int) -> Array:
        """One draw for each key ``(num,)``, ``(num, dim)``."""
        noise = jax.vmap(lambda key: jax.random.normal(key, (dim,)))(rng_keys)
        if self.wide_share == 0.0:
            return noise
        chance = jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, _CHANCE)))(rng_keys)
        return jnp.where(chance[:, None] < self.wide_share, _width(dim), 1.0) * noise

    def log_prob(self, z: Array) -> Array:
        """Log density at ``z (dim,)``, ``()``."""
        if self.wide_share == 0.0:
            return log_normal(z)
        dim = z.shape[0]
        wide = log_normal(z / _width(dim)) - dim * jnp.log(_width(dim))
        return jnp.logaddexp(jnp.log1p(-self.wide_share) + log_normal(z), jnp.log(self.wide_share) + wide)


def _width(dim: int) -> float:
    return 1.0 + REACH / dim**0.5
