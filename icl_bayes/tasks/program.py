"""A NumPyro program run in unconstrained coordinates: values set from ``theta``, densities collected."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from numpyro.primitives import Messenger, apply_stack

from icl_bayes.tasks.coordinates import joined, resolve
from icl_bayes.tasks.logits import WRAPPERS, with_slope_at_zero
from icl_bayes.types import Array


class Site(NamedTuple):
    """Where the block of a latent site lies in ``theta``."""

    start: int
    size: int
    shape: tuple[int, ...]  # of the unconstrained block
    coordinate: str


def announce(laws: Mapping[str, Any]) -> None:
    """Tell, in a program, of sites to come whose laws are of one kind and do not depend on one another.

    :class:`InCoordinates` maps all of them at once, which makes programs, and the time it takes to compile them, much
    smaller where the map is long; to all other handlers it says nothing.

    Args:
        laws: ``{site: distribution}``, as in the ``numpyro.sample`` statements that follow.
    """
    apply_stack({"type": _ANNOUNCED, "laws": laws, "value": ()})


_ANNOUNCED = "announced"


class InCoordinates(Messenger):
    """Replaces each latent site's value by a function of its block of ``theta``.

    Distributions are read after earlier sites have been set, so a prior that depends on its
    parents is mapped given them. Collects the prior log density of ``theta``.
    """

    def __init__(self, fn, theta: Array, sites: Mapping[str, Site], overrides: Mapping[str, str]) -> None:
        self.theta, self.sites, self.overrides = theta, sites, overrides
        self.log_prior = jnp.zeros(())
        self._announced: dict[str, Array] = {}
        super().__init__(fn)

    def process_message(self, msg: dict) -> None:
        if msg["type"] == _ANNOUNCED:
            self._map_together(msg["laws"])
            msg["stop"] = True
        elif msg["type"] == "sample" and not msg["is_observed"] and msg["name"] in self.sites:
            msg["value"] = self._announced.pop(msg["name"], None)
            if msg["value"] is None:
                coordinate, fn = resolve(msg["fn"], self.overrides.get(msg["name"]))
                msg["value"], log_density = coordinate.constrain(fn, self._block(msg["name"]))
                self.log_prior = self.log_prior + log_density

    def _block(self, name: str) -> Array:
        site = self.sites[name]
        return jax.lax.dynamic_slice_in_dim(self.theta, site.start, site.size).reshape(site.shape)

    def _map_together(self, laws: Mapping[str, Any]) -> None:
        coordinate, fn = joined([resolve(law, self.overrides.get(name)) for name, law in laws.items()])
        values, log_density = coordinate.constrain(fn, jnp.concatenate([self._block(name).ravel() for name in laws]))
        self.log_prior = self.log_prior + log_density
        ends = np.cumsum([self.sites[name].size for name in laws])
        for name, part in zip(laws, jnp.split(values, ends[:-1]), strict=True):
            self._announced[name] = part.reshape(self.sites[name].shape)


def observations(trace: Mapping[str, dict]) -> list[tuple[Any, Array]]:
    """Observation laws with the weights of their rows (``handlers.scale``), zero where masked, unwrapped."""
    found = []
    for message in trace.values():
        if message["type"] == "sample" and message["is_observed"]:
            fn, mask = message["fn"], jnp.ones(jnp.shape(message["value"]), bool)
            while isinstance(fn, WRAPPERS):
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
            log_prob = with_slope_at_zero(message["fn"]).log_prob(message["value"])
            if message["scale"] is not None:
                log_prob = log_prob * message["scale"]
            total = total + jnp.sum(log_prob)
    return total
