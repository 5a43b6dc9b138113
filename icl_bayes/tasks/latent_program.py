"""A NumPyro program as a function of one unconstrained vector: densities, coordinates, named sites."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np
from numpyro import handlers

from icl_bayes.precision import full_precision
from icl_bayes.tasks.coordinates import resolve
from icl_bayes.tasks.information import expected_information, observation_parameters
from icl_bayes.tasks.program import InCoordinates, Site, observations, observed_log_prob
from icl_bayes.types import Array, Dataset, Sites


@dataclass(frozen=True, eq=False, kw_only=True)
class LatentProgram:
    """A NumPyro program in unconstrained coordinates.

    Attributes:
        name: ``family/scenario``, e.g. ``glm/5``.
        model: NumPyro program ``model(dataset)``. It reads covariates and constants from the
            data set, observes the response rows the data set has and simulates those it lacks,
            and honours ``dataset.row_mask`` (``numpyro.handlers.mask``).
        responses: rows that the program simulates.
        target, nuisance, compared: names of latent sites (``compared`` within ``target``).
        example: a valid data set, from which shapes are traced.
        overrides: coordinate overrides per site (see ``coordinates.resolve``).
        derived: ``sites -> {name: value}`` of one draw, quantities computed from its sites and returned beside them.
        num_exchangeable: number of components that may be permuted, the leading axis of every site; 0 for none.
    """

    name: str
    model: Callable[[Dataset], None]
    responses: tuple[str, ...]
    target: tuple[str, ...]
    compared: tuple[str, ...]
    example: Dataset
    nuisance: tuple[str, ...] = ()
    overrides: Mapping[str, str] = field(default_factory=dict)
    derived: Callable[[Sites], dict[str, Array]] | None = None
    num_exchangeable: int = 0

    @cached_property
    def sites(self) -> dict[str, Site]:
        """Blocks of ``theta`` in the program's order (targets lead when the program says so)."""

        found: dict[str, tuple[tuple[int, ...], str]] = {}

        def trace_shapes() -> tuple[()]:
            trace = handlers.trace(handlers.seed(self.model, jax.random.key(0))).get_trace(self.example)
            for name, message in trace.items():
                if message["type"] == "sample" and not message["is_observed"] and name not in self.responses:
                    coordinate, fn = resolve(message["fn"], self.overrides.get(name))
                    found[name] = (coordinate.shape(fn), coordinate.name)
            return ()

        jax.eval_shape(trace_shapes)  # shapes alone: running the program would compile each of its operations
        blocks, start = {}, 0
        for name, (shape, coordinate) in found.items():
            size = int(np.prod(shape, dtype=int))
            blocks[name] = Site(start, size, tuple(shape), coordinate)
            start += size
        return blocks

    @property
    def dim(self) -> int:
        """Length of ``theta``."""
        return sum(site.size for site in self.sites.values())

    @property
    def coordinate_names(self) -> dict[str, str]:
        """The unconstraining map of every site, as stored in checkpoints."""
        return {name: site.coordinate for name, site in self.sites.items()}

    @cached_property
    def components(self) -> np.ndarray:
        """Where the coordinates of each exchangeable component lie in ``theta``, ``(num_exchangeable, k)``."""
        blocks = [
            np.arange(site.start, site.start + site.size).reshape(self.num_exchangeable, -1)
            for site in self.sites.values()
        ]
        return np.concatenate(blocks, axis=1)

    @cached_property
    def compared_components(self) -> np.ndarray:
        """Where each exchangeable component lies in :meth:`compared_matrix`, ``(num_exchangeable, k)``."""
        blocks, start = [], 0
        for name in self.compared:
            size = int(np.prod(self._constrained_shapes[name], dtype=int))
            blocks.append(np.arange(start, start + size).reshape(self.num_exchangeable, -1))
            start += size
        return np.concatenate(blocks, axis=1)

    def relabel(self, theta: Array, order: Array) -> Array:
        """``theta`` ``(dim,)`` with its exchangeable components in another order ``(num_exchangeable,)``."""
        return theta.at[self.components.ravel()].set(theta[jnp.asarray(self.components)[order].ravel()])

    @cached_property
    def orders(self) -> np.ndarray:
        """Of exchangeable components all orders ``(num_orders, num_exchangeable)``, the present one first."""
        return np.asarray(list(itertools.permutations(range(self.num_exchangeable))))

    def in_all_orders(self, theta: Array) -> Array:
        """``theta`` ``(dim,)`` in every one of :attr:`orders`, ``(num_orders, dim)``; alone without such components."""
        if not self.num_exchangeable:
            return theta[None]
        return jax.vmap(self.relabel, (None, 0))(theta, jnp.asarray(self.orders))

    # ---------------------------------------------------------------- the program, in coordinates

    def _run(self, theta: Array, dataset: Dataset) -> tuple[Array, dict]:
        coordinates = InCoordinates(self.model, theta, self.sites, self.overrides)
        # Values lie in their support by construction; validation inside jit would only slow tracing.
        trace = handlers.trace(handlers.seed(coordinates, jax.random.key(0))).get_trace(dataset)
        return coordinates.log_prior, trace

    @full_precision
    def log_joint(self, theta: Array, dataset: Dataset) -> Array:
        """Log density of ``theta`` and the observed rows, ``()``.

        The program is traced once per shape, however often this is differentiated: it must not branch on values.

        Args:
            theta: ``(dim,)`` unconstrained; the Jacobian of the coordinates is included.
            dataset: prepared data set; padded rows contribute nothing.
        """
        return self._log_joint(theta, dataset)

    # Kept by the task and not by a decorator, whose cache would keep every task that was ever made.
    @cached_property
    def _log_joint(self) -> Callable[[Array, Dataset], Array]:
        def log_joint(theta: Array, dataset: Dataset) -> Array:
            log_prior, trace = self._run(theta, dataset)
            return log_prior + observed_log_prob(trace)

        return jax.jit(log_joint)

    @full_precision
    def log_prior(self, theta: Array, dataset: Dataset) -> Array:
        """Log prior density of ``theta`` ``(dim,)`` in its unconstrained coordinates, ``()``."""
        return self._run(theta, dataset)[0]

    @full_precision
    def log_likelihood(self, theta: Array, dataset: Dataset) -> Array:
        """Log probability of the observed rows given ``theta``, ``()``."""
        return observed_log_prob(self._run(theta, dataset)[1])

    @full_precision
    def fisher_information(self, theta: Array, dataset: Dataset) -> Array:
        """Expected information of the observed rows plus the identity, ``(dim, dim)``.

        The identity stands for the prior, which is (about) standard normal in ``theta``. Only for
        programs whose observation laws are known to :mod:`icl_bayes.tasks.information`.
        """
        return self._fisher_information(theta, dataset)

    @cached_property
    def _fisher_information(self) -> Callable[[Array, Dataset], Array]:
        def information(theta: Array, dataset: Dataset) -> Array:
            return expected_information(lambda theta: observations(self._run(theta, dataset)[1]), theta)

        return jax.jit(information)

    @cached_property
    def has_fisher_information(self) -> bool:
        """Whether every observation law of the program has a known expected information."""

        def known(theta: Array) -> list[bool]:
            laws = observations(self._run(theta, self.example)[1])
            supported.extend(observation_parameters(fn) is not None for fn, _ in laws)
            return []

        supported: list[bool] = []
        jax.eval_shape(known, jnp.zeros(self.dim))
        return all(supported)

    @full_precision
    def curvature(self, theta: Array, dataset: Dataset) -> Array:
        """A positive semi-definite metric for mode finding: Fisher information where known.

        Otherwise minus the Hessian of the log joint with its eigenvalues made positive.
        """
        if self.has_fisher_information:
            return self.fisher_information(theta, dataset)
        hessian = -jax.jacfwd(jax.grad(self.log_joint))(theta, dataset)
        eigenvalues, vectors = jnp.linalg.eigh(0.5 * (hessian + hessian.T))
        return (vectors * jnp.maximum(jnp.abs(eigenvalues), 0.05)) @ vectors.T

    @full_precision
    def constrain(self, theta: Array, dataset: Dataset) -> dict[str, Array]:
        """Named sites of one ``theta`` ``(dim,)``, in the units of the model, and what is derived from them."""
        trace = self._run(theta, dataset)[1]
        sites = {name: trace[name]["value"] for name in self.sites}
        return sites if self.derived is None else {**sites, **self.derived(sites)}

    @full_precision
    def log_volume(self, theta: Array, dataset: Dataset) -> Array:
        """Log absolute determinant of the Jacobian of :meth:`constrain` at ``theta`` ``(dim,)``, ``()``.

        A density of ``theta`` minus this is the density of the sites in their units.
        """

        def flat(theta: Array) -> Array:
            sites = self.constrain(theta, dataset)
            return jnp.concatenate([jnp.ravel(sites[name]) for name in self.sites])

        return jnp.linalg.slogdet(jax.jacfwd(flat)(theta))[1]

    @full_precision
    def unconstrain(self, sites: Sites, dataset: Dataset) -> Array:
        """Inverse of :meth:`constrain` for one draw, ``(dim,)``."""
        seeded = handlers.seed(handlers.substitute(self.model, data=dict(sites)), jax.random.key(0))
        trace = handlers.trace(seeded).get_trace(dataset)
        pieces = []
        for name in self.sites:
            coordinate, fn = resolve(trace[name]["fn"], self.overrides.get(name))
            pieces.append(jnp.ravel(coordinate.unconstrain(fn, trace[name]["value"])))
        return jnp.concatenate(pieces)

    # ---------------------------------------------------------------- named draws as matrices

    def site_names(self, which: str = "compared") -> list[str]:
        """Column labels of :meth:`compared_matrix` (or of ``target``), e.g. ``beta[0]``."""
        labels = []
        for name in getattr(self, which):
            shape = self._constrained_shapes[name]
            labels += [name] if not shape else [f"{name}{list(index)}" for index in np.ndindex(*shape)]
        return labels

    def compared_matrix(self, sites: Sites) -> np.ndarray:
        """Stacked draws of the compared sites, ``(num_draws, D)`` float64, constrained units."""
        columns = [np.asarray(sites[name], np.float64) for name in self.compared]
        return np.concatenate([column.reshape(column.shape[0], -1) for column in columns], axis=1)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of what :meth:`constrain` returns: sites, then what is derived from them."""
        return (*self.sites, *(name for name in self._constrained_shapes if name not in self.sites))

    @cached_property
    def _constrained_shapes(self) -> dict[str, tuple[int, ...]]:
        sites = jax.eval_shape(self.constrain, jnp.zeros(self.dim), self.example)
        return {name: tuple(value.shape) for name, value in sites.items()}
