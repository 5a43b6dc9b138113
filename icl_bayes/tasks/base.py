"""A task: one NumPyro program, from which everything else is derived.

Prior sampling, simulation, unconstraining maps, the log joint, the MCMC and variational
baselines and posterior prediction all read the same program, so that the training prior and
the reference cannot drift apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpyro import handlers

from icl_bayes.precision import full_precision
from icl_bayes.tasks.coordinates import Coordinate, resolve
from icl_bayes.tasks.features import Features
from icl_bayes.tasks.information import expected_information, observation_parameters
from icl_bayes.tasks.padding_check import require_padding_invariance
from icl_bayes.tasks.program import InCoordinates, Site, observations, observed_log_prob
from icl_bayes.types import Array, Dataset, Sites


@dataclass(frozen=True, eq=False)
class Task:
    """A statistical model with everything needed to train and judge a network for it.

    Attributes:
        name: ``family/scenario``, e.g. ``glm/5``.
        model: NumPyro program ``model(dataset)``. It reads covariates and constants from the
            data set, observes the response rows the data set has and simulates those it lacks,
            and honours ``dataset.row_mask`` (``numpyro.handlers.mask``).
        inputs: ``(rng_key, row_mask) -> {row name: array}``, the covariate prior.
        responses: rows that the program simulates.
        target, nuisance, compared: names of latent sites (``compared`` within ``target``).
        constants: default prior hyper-parameters.
        hyperprior: log-uniform training ranges ``{constant: (low, high)}``; constants not named
            keep their default.
        features: ``dataset -> Features``, what networks read.
        validate: family-specific checks and conversions of a user's data set.
        example: a valid data set of the task, from which shapes are traced.
        starts: ``dataset -> {site: (k, *site_shape)}``, where mode searches begin beside zero, which is
            near the prior median; for posteriors that may have several modes. Sites left out start there.
        accept: ``dataset -> bool ()``, whether a simulated data set is kept. A rule on the data
            alone leaves every posterior unchanged; tables record its rate.
        overrides: coordinate overrides per site (see ``coordinates.resolve``).
        paper_num_rows: number of rows in the published scenario.
        options: what ``make_task`` was called with; stored in checkpoints.
        derived: ``sites -> {name: value}`` of one draw, quantities computed from its sites and returned beside them.
        denoise: ``(x (dim,), alpha (), sigma (), dataset) -> (mean, center)``, an estimate ``(dim,)`` of theta from
            the data and the noisy view ``x = alpha theta + sigma noise``, and one from the data alone, near it; for
            velocities that correct it.
        summaries: ``dataset -> (k, e)``, further tokens for encoders to read beside the rows.
        spread: ``(x, alpha, sigma, dataset, vector (dim,)) -> (dim,)``, about the covariance of theta given data and
            view, times a vector; for losses that take noise out of their targets with it.
        responsibilities: ``(theta (dim,), dataset) -> (n, M)``, of a mixture: the probability of every component for
            every row, zero where masked.
        em_step: ``(theta, dataset) -> theta``, one step towards a mode, of the EM algorithm.
        num_exchangeable: number of components that may be permuted, the leading axis of every site; 0 for none.
        has_far_modes: whether posteriors may have modes that chains do not cross, beside those by permutation; the
            reference is then tempered SMC.
    """

    name: str
    model: Callable[[Dataset], None]
    inputs: Callable[[Array, Array], dict[str, Array]]
    responses: tuple[str, ...]
    target: tuple[str, ...]
    compared: tuple[str, ...]
    constants: Mapping[str, float]
    features: Callable[[Dataset], Features]
    validate: Callable[[Dataset], Dataset]
    example: Dataset
    paper_num_rows: int
    nuisance: tuple[str, ...] = ()
    starts: Callable[[Dataset], Sites] | None = None
    accept: Callable[[Dataset], Array] | None = None
    hyperprior: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    overrides: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    derived: Callable[[Sites], dict[str, Array]] | None = None
    denoise: Callable[[Array, Array, Array, Dataset], tuple[Array, Array]] | None = None
    summaries: Callable[[Dataset], Array] | None = None
    spread: Callable[[Array, Array, Array, Dataset, Array], Array] | None = None
    responsibilities: Callable[[Array, Dataset], Array] | None = None
    em_step: Callable[[Array, Dataset], Array] | None = None
    num_exchangeable: int = 0
    has_far_modes: bool = False

    def __post_init__(self) -> None:
        latent = set(self.sites)
        declared = (*self.target, *self.nuisance)
        if latent != set(declared) or len(declared) != len(set(declared)):
            raise ValueError(
                f"Task {self.name!r}: the program's latent sites {sorted(latent)} must be exactly the declared "
                f"target {self.target} and nuisance {self.nuisance} sites."
            )
        if not set(self.compared) <= set(self.target):
            raise ValueError(f"Task {self.name!r}: compared sites {self.compared} must be target sites.")
        require_padding_invariance(self)

    # ---------------------------------------------------------------- structure

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

    @property
    def num_columns(self) -> int:
        return int(self.options.get("num_columns", 0))

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

    @property
    def has_response(self) -> bool:
        """Whether some rows are predicted from others, as in a regression."""
        return set(self.responses) != set(self.example.rows)

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

    # ---------------------------------------------------------------- simulation

    def sample_constants(self, rng_key: Array) -> dict[str, Array]:
        """Prior hyper-parameters for one simulated data set, scalars."""
        constants = {name: jnp.asarray(value, jnp.float32) for name, value in self.constants.items()}
        keys = jax.random.split(rng_key, max(len(self.hyperprior), 1))
        for key, (name, (low, high)) in zip(keys, sorted(self.hyperprior.items()), strict=False):
            constants[name] = jnp.exp(jax.random.uniform(key, minval=jnp.log(low), maxval=jnp.log(high)))
        return constants

    @full_precision
    def sample_prior(self, rng_key: Array, dataset: Dataset) -> Array:
        """One draw of ``theta`` ``(dim,)`` from the prior, given the constants and covariates of a data set."""
        inputs = {name: value for name, value in dataset.rows.items() if name not in self.responses}
        unobserved = dataset.replace(rows=inputs)
        trace = handlers.trace(handlers.seed(self.model, rng_key)).get_trace(unobserved)
        return self.unconstrain({name: trace[name]["value"] for name in self.sites}, dataset)

    @full_precision
    def simulate(
        self, rng_key: Array, num_rows: int | Array, padded_rows: int | None = None, *, scale: Array | None = None
    ) -> tuple[Array, Dataset]:
        """One exact draw of ``(theta, dataset)`` from the joint law.

        Args:
            num_rows: number of rows; may be traced when ``padded_rows`` is given.
            padded_rows: static length of the row axis (default ``num_rows``).
            scale: ``()``; rows are simulated from ``scale * theta``, which is returned, ``theta`` being a draw of the
                prior: another joint law, with the same law of the rows given theta.

        Returns:
            ``theta`` ``(dim,)`` and a data set with ``padded_rows`` rows.
        """
        constants_key, inputs_key, model_key = jax.random.split(rng_key, 3)
        if padded_rows is None:
            padded_rows = int(num_rows)
        row_mask = jnp.arange(padded_rows) < num_rows
        constants = self.sample_constants(constants_key)
        inputs = self.inputs(inputs_key, row_mask)
        unobserved = Dataset(row_mask=row_mask, constants=constants, **inputs)
        trace = handlers.trace(handlers.seed(self.model, model_key)).get_trace(unobserved)
        dataset = unobserved.replace(rows={**inputs, **{name: trace[name]["value"] for name in self.responses}})
        theta = self.unconstrain({name: trace[name]["value"] for name in self.sites}, dataset)
        if scale is None:
            return theta, dataset
        program = handlers.substitute(self.model, data=self.constrain(scale * theta, dataset))
        trace = handlers.trace(handlers.seed(program, jax.random.fold_in(model_key, 1))).get_trace(unobserved)
        responses = {name: trace[name]["value"] for name in self.responses}
        return scale * theta, unobserved.replace(rows={**inputs, **responses})

    def is_accepted(self, dataset: Dataset) -> Array:
        """Whether a simulated data set passes the task's rule, ``()`` boolean."""
        return jnp.asarray(True) if self.accept is None else self.accept(dataset)

    @full_precision
    def starting_points(self, dataset: Dataset) -> Array:
        """Where mode searches begin, ``(k, dim)``, a function of the data alone.

        The task's best guess comes first, zero next, its other points last.
        """
        zero = jnp.zeros(self.dim)
        if self.starts is None:
            return zero[None]
        median = self.constrain(zero, dataset)
        others = jax.vmap(lambda sites: self.unconstrain({**median, **sites}, dataset))(self.starts(dataset))
        return jnp.concatenate([others[:1], zero[None], others[1:]])

    # ---------------------------------------------------------------- data from outside

    def prepare(self, dataset: Dataset) -> Dataset:
        """A user's data set, checked and completed: float32 rows, all constants present.

        Raises:
            ValueError: for missing or non-finite rows, unknown constants, and whatever the
                family forbids; the message says what was received and what is expected.
        """
        unknown = sorted(set(dataset.constants) - set(self.constants))
        if unknown:
            raise ValueError(f"Task {self.name!r} has no constant(s) {unknown}; it knows {sorted(self.constants)}.")
        merged = {**self.constants, **dataset.constants}
        constants = {name: np.asarray(value, np.float32) for name, value in merged.items()}
        for name, value in constants.items():
            if not np.isfinite(value).all() or (value <= 0).any():
                raise ValueError(f"Prior constant {name!r} must be positive and finite; received {value}.")
        return self.validate(dataset.replace(constants=constants))

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


__all__ = ["Coordinate", "Features", "Task"]
