"""What a network draws, and the densities of draws."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from icl_bayes.types import AnyArray, Array

UNKNOWN = np.full(1, np.nan, np.float32)
"""In the place of densities that are not wanted: one number, as ``jax.lax.map`` takes no empty arrays in batches."""


class ThetaDraws(NamedTuple):
    """Draws of one data set.

    Attributes:
        theta: ``(num_draws, dim)`` unconstrained.
        is_finite: ``()`` whether base and every draw are finite.
        decrement: ``()`` nats that a further step of the base's search promised (zero if it has none).
        rival: ``()`` log mass of a second mode relative to the one the base sits in (minus infinity if
            none was met).
        log_prob: ``(num_draws,)`` log density of ``theta``, of the law they are drawn from; :data:`UNKNOWN` if not
            wanted. From a base of several modes it is the density of a draw with the mode it came from, by the share
            that this mode has there: importance weights are exact with it, while the density of the draw alone is
            :meth:`Network.log_prob`.
    """

    theta: Array
    is_finite: Array
    decrement: Array
    rival: Array
    log_prob: AnyArray


class Inverted(NamedTuple):
    """Densities at given points.

    Attributes:
        log_prob: ``(num,)``.
        residual: ``(num,)``, how far from a point its noise leads, in base coordinates; more than
            :data:`icl_bayes.flow.MAX_RESIDUAL` where no noise was found.
    """

    log_prob: Array
    residual: Array
