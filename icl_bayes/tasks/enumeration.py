"""Discrete latent sites of a NumPyro program, summed out of its density.

A site in the plate over rows is summed row by row (rows are independent given everything else, so a mixture of M
components costs M evaluations), any other one jointly (a change point among T times costs T). In simulation the sites
are drawn as the program says.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from numpyro import handlers

from icl_bayes.compiler import compiled_once
from icl_bayes.types import Array, Dataset

MAX_ASSIGNMENTS = 4096
FACTOR = "log_likelihood"
"""Name of the site that holds the summed density."""


@dataclass(frozen=True)
class DiscreteSite:
    """A discrete latent site.

    Attributes:
        values: what every element may be, ``(M,)``.
        shape: of the site; its first axis is the rows' if ``in_rows``.
        in_rows: whether it lies in the plate over rows.
    """

    values: np.ndarray
    shape: tuple[int, ...]
    in_rows: bool


def require_enumerable(sites: Mapping[str, DiscreteSite]) -> None:
    """Raise a ValueError if summing over all assignments would take too long."""
    count = 1
    for name, site in sites.items():
        size = 1 if site.in_rows else int(np.prod(site.shape, dtype=int))
        count *= len(site.values) ** size
        if count > MAX_ASSIGNMENTS:
            raise ValueError(
                f"The discrete site {name!r} of shape {site.shape} with {len(site.values)} values cannot be summed "
                f"out: with the discrete sites before it there are more than {MAX_ASSIGNMENTS} assignments. Sum "
                "it out by hand (numpyro.distributions.MixtureSameFamily), or put it into the plate over rows, where "
                "it is summed row by row."
            )


def row_log_probs(message: dict, plate: str) -> Array:
    """Log probability of a site in the plate over rows, summed over its other axes, ``(n,)``."""
    log_prob = message["fn"].log_prob(message["value"])
    dim = next(frame.dim for frame in message["cond_indep_stack"] if frame.name == plate)
    rows_first = jnp.moveaxis(log_prob, dim, 0)
    return jnp.sum(rows_first.reshape(rows_first.shape[0], -1), axis=1)


def in_plate(message: dict, plate: str) -> bool:
    return any(frame.name == plate for frame in message["cond_indep_stack"])


def _assignments(sites: Mapping[str, DiscreteSite], names: Sequence[str]) -> dict[str, Array]:
    """All joint values of some sites, each ``(assignments, elements)``; rows count as one element."""
    elements = {name: 1 if sites[name].in_rows else int(np.prod(sites[name].shape, dtype=int)) for name in names}
    choices = [sites[name].values for name in names for _ in range(elements[name])]
    table = np.asarray(list(itertools.product(*choices))).reshape(-1, len(choices))
    found, start = {}, 0
    for name in names:
        found[name] = jnp.asarray(table[:, start : start + elements[name]])
        start += elements[name]
    return found


class SummedOut:
    """A program whose discrete latent sites are summed out wherever its responses are observed.

    Args:
        program: ``program(dataset)``.
        sites: its discrete latent sites.
        responses: names of the observed sites.
        plate: name of the plate over rows; empty if there is none.
        has_shared: whether any response lies outside that plate.
    """

    def __init__(
        self,
        program: Callable[[Dataset], None],
        sites: Mapping[str, DiscreteSite],
        responses: tuple[str, ...],
        plate: str,
        *,
        has_shared: bool,
    ) -> None:
        self.program, self.sites, self.responses, self.plate = program, dict(sites), responses, plate
        self.has_shared = has_shared
        self.local = [name for name, site in sites.items() if site.in_rows]
        self.joint = [name for name, site in sites.items() if not site.in_rows]

    def __call__(self, dataset: Dataset) -> None:
        if any(name not in dataset for name in self.responses):
            self.program(dataset)
            return
        values = self._continuous(dataset)
        if self.joint:
            by_joint = jax.vmap(lambda joint: self._given_joint(values, joint, dataset))
            shared, rows = by_joint(_assignments(self.sites, self.joint))
            numpyro.factor(FACTOR, jax.scipy.special.logsumexp(shared + jnp.sum(rows, axis=-1)))
            return
        shared, rows = self._given_joint(values, {}, dataset)
        numpyro.factor(FACTOR, rows)
        if self.has_shared:
            numpyro.factor(f"{FACTOR}_shared", shared)

    def _continuous(self, dataset: Dataset) -> dict[str, Array]:
        """Values of the continuous latent sites, which handlers outside set and see."""
        first = {name: self._spread(name, jnp.asarray(self.sites[name].values[:1]), dataset) for name in self.sites}
        program = handlers.substitute(self.program, data=first)
        hidden = handlers.block(program, hide_fn=lambda site: site["name"] in self.sites or _is_data(site))
        with handlers.trace() as trace:
            hidden(dataset)
        return {name: message["value"] for name, message in trace.items() if message["type"] == "sample"}

    def _spread(self, name: str, value: Array, dataset: Dataset) -> Array:
        """``(elements,)`` in the shape of a site."""
        site = self.sites[name]
        if site.in_rows:
            return jnp.broadcast_to(value[0], (dataset.padded_rows, *site.shape[1:]))
        return jnp.broadcast_to(value, (int(np.prod(site.shape, dtype=int)),)).reshape(site.shape)

    def _trace(self, data: Mapping[str, Any], dataset: Dataset) -> dict[str, dict]:
        """Sample sites of a run with given values, of which handlers outside see nothing."""
        with handlers.block(), handlers.trace() as trace:
            handlers.substitute(self.program, data=dict(data))(dataset)
        return {name: message for name, message in trace.items() if message["type"] == "sample"}

    def parts(self, data: Mapping[str, Array], dataset: Dataset) -> tuple[Array, Array, Array]:
        """Log probability of a run with all sites given, by part.

        Returns:
            continuous sites ``()``, the discrete and observed sites outside the plate ``()``, and those within,
            ``(n,)``, zero where masked.
        """
        continuous, shared = jnp.zeros(()), jnp.zeros(())
        rows = jnp.zeros(dataset.padded_rows)
        for name, message in self._trace(data, dataset).items():
            if name not in self.sites and not message["is_observed"]:
                continuous = continuous + jnp.sum(message["fn"].log_prob(message["value"]))
            elif in_plate(message, self.plate):
                rows = rows + row_log_probs(message, self.plate)
            else:
                shared = shared + jnp.sum(message["fn"].log_prob(message["value"]))
        return continuous, shared, jnp.where(dataset.row_mask, rows, 0.0)

    def _given_joint(
        self, values: Mapping[str, Array], joint: Mapping[str, Array], dataset: Dataset
    ) -> tuple[Array, Array]:
        """Log probabilities given the jointly summed sites: outside the plate ``()``, and of rows ``(n,)``."""
        given = {**values, **{name: self._spread(name, value, dataset) for name, value in joint.items()}}

        def one(local: Mapping[str, Array]) -> tuple[Array, Array]:
            spread = {name: self._spread(name, value, dataset) for name, value in local.items()}
            _, shared, rows = self.parts({**given, **spread}, dataset)
            return shared, rows

        if not self.local:
            return one({})
        shared, rows = jax.vmap(one)(_assignments(self.sites, self.local))
        return shared[0], jnp.where(dataset.row_mask, jax.scipy.special.logsumexp(rows, axis=0), 0.0)

    # ---------------------------------------------------------------- checks

    def require_separable(self, dataset: Dataset) -> None:
        """Raise a ValueError if the sum taken here is not the sum over all assignments."""
        inputs = {name: value for name, value in dataset.rows.items() if name not in self.responses}
        run = handlers.trace(handlers.seed(self.program, jax.random.key(1))).get_trace(dataset.replace(rows=inputs))
        drawn = (*self.sites, *self.responses)
        known = {name: m["value"] for name, m in run.items() if m["type"] == "sample" and name not in drawn}
        generator = np.random.default_rng(0)
        chosen = {name: generator.integers(len(site.values), size=site.shape) for name, site in self.sites.items()}
        first, second = (  # another value everywhere
            {name: site.values[(chosen[name] + step) % len(site.values)] for name, site in self.sites.items()}
            for step in range(2)
        )
        parts = compiled_once(self.parts, {**known, **first}, dataset)
        together, other = (parts({**known, **one}, dataset) for one in (first, second))
        if not np.allclose(together[0], other[0], rtol=1e-4, atol=1e-4):
            raise ValueError(
                f"The prior of a continuous site depends on the discrete site(s) {sorted(self.sites)}, which cannot be "
                "summed out then. Give the continuous site one value per case, and let the discrete one choose."
            )
        local = {name: first[name] for name in self.local}
        alone = [
            parts(
                {**known, **first, **{name: np.full_like(value, value[row]) for name, value in local.items()}}, dataset
            )[2][row]
            for row in range(dataset.padded_rows if local else 0)
        ]
        if not local:
            return
        changed = parts({**known, **first, **{name: second[name] for name in local}}, dataset)
        if not np.allclose(together[2], np.stack(alone), rtol=1e-3, atol=1e-3) or not np.allclose(
            together[1], changed[1], rtol=1e-4, atol=1e-4
        ):
            raise ValueError(
                f"The discrete site(s) {self.local} lie in the plate over rows, but what they do is not confined to "
                "their own row (a Markov chain of states, say), so they cannot be summed out row by row."
            )


def _is_data(site: dict[str, Any]) -> bool:
    return site["type"] == "sample" and site["is_observed"]
