"""A NumPyro program run in unconstrained coordinates: values set from ``theta``, densities collected."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from numpyro.primitives import Messenger

from icl_bayes.tasks.coordinates import resolve
from icl_bayes.types import Array


class Site(NamedTuple):
    """Where the block of a latent site lies in ``theta``."""

    start: int
    size: int
    shape: tuple[int, ...]  # of the unconstrained block
    coordinate: str


class InCoordinates(Messenger):
    """Replaces each latent site's value by a function of its block of ``theta``.

    Distributions are read after earlier sites have been set, so a prior that depends on its
    parents is mapped given them. Collects the prior log density of ``theta``.
    """

    def __init__(self, fn, theta: Array, sites: Mapping[str, Site], overrides: Mapping[str, str]) -> None:
        self.theta, self.sites, self.overrides = theta, sites, overrides
        self.log_prior = jnp.zeros(())
        super().__init__(fn)

    def process_message(self, msg: dict) -> None:
        if msg["type"] != "sample" or msg["is_observed"] or msg["name"] not in self.sites:
            return
        site = self.sites[msg["name"]]
        u = jax.lax.dynamic_slice_in_dim(self.theta, site.start, site.size).reshape(site.shape)
        coordinate, fn = resolve(msg["fn"], self.overrides.get(msg["name"]))
        msg["value"], log_density = coordinate.constrain(fn, u)
        self.log_prior = self.log_prior + log_density


def observations(trace: Mapping[str, dict]) -> list[tuple[Any, Array]]:
    """Observation laws with the weights of their rows (``handlers.scale``), zero where masked, unwrapped."""
    found = []
    for message in trace.values():
        if message["type"] == "sample" and message["is_observed"]:
            fn, mask = message["fn"], jnp.ones(jnp.shape(message["value"]), bool)
            while isinstance(fn, (dist.Independent, dist.ExpandedDistribution, dist.MaskedDistribution)):
                if isinstance(fn, dist.MaskedDistribution):
                    of_events = jnp.broadcast_to(fn._mask, fn.batch_shape)  # all of an event or none of it
                    mask = mask & of_events.reshape(*fn.batch_shape, *[1] * (mask.ndim - len(fn.batch_shape)))
                fn = fn.base_dist
            found.append((fn, mask if message["scale"] is None else mask * message["scale"]))
    return found


def observed_log_prob(trace: Mapping[str, dict]) -> Array:
    """Log probability of the observed rows of a run, masks applied, ``()``."""
    total = jnp.zeros(())
    for message in trace.values():
        if message["type"] == "sample" and message["is_observed"]:
            log_prob = message["fn"].log_prob(message["value"])
            if message["scale"] is not None:
                log_prob = log_prob * message["scale"]
            total = total + jnp.sum(log_prob)
    return total
