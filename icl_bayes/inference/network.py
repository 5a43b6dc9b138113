"""The public network: load weights, sample the posterior of a data set."""

from __future__ import annotations

import dataclasses
import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from icl_bayes.baselines.programs import ProgramCache, register_holder
from icl_bayes.flow import LIKELIHOOD_BASES, Affine, GaussianModes, Solver
from icl_bayes.inference.buckets import padded_length
from icl_bayes.inference.checks import check_against_training, check_base, outside_prior
from icl_bayes.inference.densities import log_prob_at
from icl_bayes.inference.novelty import Novelty
from icl_bayes.inference.origin import NetworkOrigin
from icl_bayes.inference.posterior import Posterior
from icl_bayes.inference.program_store import ProgramStore, lower
from icl_bayes.inference.sampler import CompiledBase, Densities, Program, Sampler, compile_sampler
from icl_bayes.tasks import Task
from icl_bayes.training.checkpoint import Checkpoint, CheckpointError, load_checkpoint, unflatten
from icl_bayes.training.network import NO_DENSITY, Network, ThetaDraws, build_network
from icl_bayes.types import Array, Dataset

WEIGHTS = Path(__file__).parents[1] / "weights"
CHUNK = 4096
"""Draws per compiled call; more are drawn in several calls of this size."""


def shipped_networks() -> list[str]:
    """Names that :func:`load` accepts without a path."""
    return sorted(str(path.parent.relative_to(WEIGHTS)) for path in WEIGHTS.rglob("checkpoint.json"))


def load(name: str | Path, *, task: Task | None = None) -> AmortizedPosterior:
    """A shipped network by name, e.g. ``glm/5`` or ``glm/5/gaussian``, or a checkpoint directory.

    Args:
        task: what the network was trained for, if it is a task of one's own (:meth:`Task.from_numpyro`).

    Raises:
        CheckpointError: if there is no such network, or the directory cannot be used; the
            message lists the shipped networks or says what is wrong.
    """
    directory = WEIGHTS / str(name)
    if not (directory / "checkpoint.json").is_file():
        directory = Path(name)
        if directory.is_dir() and (directory / "network" / "checkpoint.json").is_file():
            directory = directory / "network"  # a training run
    if not directory.is_dir():
        raise CheckpointError(
            f"There is no shipped network and no directory {str(name)!r}. "
            f"Shipped networks: {', '.join(shipped_networks()) or 'none'}."
        )
    return AmortizedPosterior.from_checkpoint(load_checkpoint(directory, task), label=str(name))


class _Drawn(NamedTuple):
    """Draws on the host, the health of their base (see :class:`ThetaDraws`), of moves, and their densities."""

    theta: np.ndarray
    sites: dict[str, np.ndarray]
    decrement: float
    rival: float
    acceptance: float
    step_size: float
    densities: Densities


@dataclass(eq=False)
class AmortizedPosterior:
    """A trained network for one task.

    Attributes:
        network: architecture and task.
        params: weights.
        checkpoint: configuration and provenance.
        label: what it was loaded as.
        solver: default ODE solver.
        store: where traced programs are kept between processes, if anywhere; for networks from a checkpoint, whose
            task is what its configuration builds.
        programs: compiled programs of repairs.
    """

    network: Network
    params: Any
    checkpoint: Checkpoint
    label: str
    solver: Solver
    store: ProgramStore | None = None
    compilations: int = 0
    programs: ProgramCache = field(default_factory=ProgramCache, repr=False)
    _programs: dict[tuple, Program] = field(default_factory=dict, repr=False)
    _density_programs: dict[tuple, Callable[..., Any]] = field(default_factory=dict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def __post_init__(self) -> None:
        register_holder(self)

    def release(self) -> None:
        """Drop the compiled samplers; they are compiled again when needed."""
        with self._lock:
            self._programs.clear()
            self._density_programs.clear()

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint, label: str = "network") -> AmortizedPosterior:
        network = build_network(checkpoint.config, checkpoint.task)
        params = unflatten(network.template, checkpoint.arrays, label)
        return cls(network, params, checkpoint, label, checkpoint.config.flow.make_solver())

    @property
    def task(self) -> Task:
        return self.network.task

    @cached_property
    def novelty(self) -> Novelty:
        """Scores of how unusual data sets are for this network."""
        return Novelty(self)

    def __repr__(self) -> str:
        config = self.checkpoint.config
        return (
            f"AmortizedPosterior({self.label!r}, task={self.task.name!r}, base={config.model.base!r}, "
            f"inputs={config.model.inputs!r}, solver={self.solver.label!r}, weights={self.checkpoint.identity})"
        )

    # ---------------------------------------------------------------- sampling

    def sample(
        self,
        rng_key: Array,
        dataset: Dataset,
        num_draws: int = 1000,
        *,
        solver: Solver | None = None,
        polish: int = 0,
        with_log_prob: bool = False,
        prior: Mapping[str, Any] | None = None,
    ) -> Posterior:
        """Posterior draws for one data set.

        Args:
            rng_key: ``jax.random.key(...)``; the same key gives the same draws (to rounding)
                whatever the padding or the number of draws asked for.
            dataset: rows ``x (n, p)`` and ``y (n,)``; prior constants may be given in
                ``Dataset(constants=...)``, else the task's defaults are used.
            solver: default the network's own.
            polish: number of HMC moves from every draw, which leave the posterior invariant and bring draws closer to
                it (:mod:`icl_bayes.baselines.moves`); they evaluate the likelihood.
            with_log_prob: also compute the density of every draw, in the same pass, at the cost of one evaluation
                of the velocity per dimension: ``post.log_prob``, and what ``post.certificate()`` rests on, which
                otherwise draws again. Not with ``polish``, after which the law of the draws is not known.
            prior: prior constants such as ``{"beta_scale": 2.0}``, in the place of the data set's or the defaults;
                :attr:`prior_range` says what the network was trained for, and beyond it there is a warning.

        Raises:
            ValueError: for data the model cannot be conditioned on (see :meth:`Task.prepare`),
                fewer rows than the network saw, or draws that are not finite.
        """
        if num_draws < 1:
            raise ValueError(f"num_draws must be at least 1; received {num_draws}.")
        if polish < 0:
            raise ValueError(f"polish is a number of moves, at least 0; received {polish}.")
        if polish and with_log_prob:
            raise ValueError(
                "with_log_prob is for draws as the network makes them; after moves (polish) their density is not known."
            )
        if with_log_prob and (solver or self.solver).method == "dopri5":
            raise ValueError(NO_DENSITY)
        prepared = self.prepare(dataset if prior is None else self.with_prior(dataset, prior))
        outside = self.outside_prior(prepared)
        notes = check_against_training(self.network, self.checkpoint.calibration, prepared, outside)
        started = time.perf_counter()
        drawn = self._draw(rng_key, prepared, num_draws, solver or self.solver, polish, with_log_prob)
        seconds = time.perf_counter() - started
        notes += check_base(drawn.decrement, drawn.rival)
        moves = {"moves": polish, "acceptance": drawn.acceptance, "step_size": drawn.step_size} if polish else {}
        return Posterior(
            task=self.task,
            dataset=prepared,
            theta=drawn.theta,
            sites=drawn.sites,
            notes=tuple(notes),
            densities=drawn.densities if with_log_prob else None,
            origin=NetworkOrigin(self, rng_key, solver or self.solver),
            info={
                "network": self.label,
                "weights": self.checkpoint.identity,
                "solver": (solver or self.solver).label,
                "seconds": seconds,
                "base_decrement": drawn.decrement,
                "rival_mass": float(np.exp(drawn.rival)),
                **moves,
            },
        )

    def sample_batch(
        self,
        rng_key: Array,
        datasets: Sequence[Dataset],
        num_draws: int = 1000,
        *,
        solver: Solver | None = None,
        polish: int = 0,
    ) -> list[Posterior]:
        """Posteriors of several data sets in one compiled call (padded to a common length).

        Every data set gets its own key, ``jax.random.fold_in(rng_key, index)``: the draws equal
        those of :meth:`sample` with that key, to rounding.
        """
        if not datasets:
            return []
        solver = solver or self.solver
        prepared = [self.prepare(dataset) for dataset in datasets]
        calibration = self.checkpoint.calibration
        notes = [check_against_training(self.network, calibration, one, self.outside_prior(one)) for one in prepared]
        length = self.padded_length(max(one.padded_rows for one in prepared))
        stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *[one.pad_rows(length) for one in prepared])
        keys = jax.vmap(lambda index: jax.random.fold_in(rng_key, index))(jnp.arange(len(datasets)))
        key = ("batch", length, len(datasets), num_draws, polish, solver)
        program = self._program(key, keys, stacked, num_draws, solver, polish)
        result, sites, _, _ = jax.device_get(program(self.params, keys, stacked, jnp.asarray(0)))
        posteriors = []
        for i, one in enumerate(prepared):
            draws = jax.tree.map(lambda leaf, i=i: np.asarray(leaf[i]), result)
            self._require_finite(draws)
            info = {"network": self.label, "weights": self.checkpoint.identity, "solver": solver.label}
            named = {name: value[i] for name, value in sites.items()}
            notes[i] += check_base(float(draws.decrement), float(draws.rival))
            info |= {"moves": polish} if polish else {}
            known = (self.task, one, draws.theta, named, tuple(notes[i]), info)
            posteriors.append(Posterior(*known, origin=NetworkOrigin(self, keys[i], solver)))
        return posteriors

    def log_prob(
        self, dataset: Dataset, sites: Mapping[str, np.ndarray], *, solver: Solver | None = None
    ) -> np.ndarray:
        """Log density, in the units of the model, of given values under the law that draws come from.

        The density is that of the solver's own steps, so that ``net.log_prob(dataset, post)`` equals ``post.log_prob``.

        Args:
            dataset: as in :meth:`sample`.
            sites: ``{site: (num, *site_shape)}``, every site of the model, such as a :class:`Posterior`.

        Returns:
            ``(num,)``; NaN, with a warning, where the flow could not be inverted: no draw comes near there.

        Raises:
            ValueError: for missing sites, or sites of other shapes.
        """
        return log_prob_at(self, dataset, sites, solver or self.solver)

    @property
    def prior_range(self) -> dict[str, tuple[float, float]]:
        """Prior constants that the network was trained for, ``{name: (lowest, highest)}``."""
        ranges = {name: (np.min(value), np.max(value)) for name, value in self.task.constants.items()}
        return {name: (float(low), float(high)) for name, (low, high) in {**ranges, **self.task.hyperprior}.items()}

    def with_prior(self, dataset: Dataset, prior: Mapping[str, Any]) -> Dataset:
        """The data set with other prior constants; unknown names are refused when it is prepared."""
        return dataset.replace(constants={**dataset.constants, **prior})

    def outside_prior(self, prepared: Dataset) -> list[str]:
        """What of the prior lies beyond that of the training, in words."""
        return outside_prior(self.prior_range, prepared.constants)

    def prepare(self, dataset: Dataset) -> Dataset:
        """The data set, checked and completed for this network's task."""
        if not isinstance(dataset, Dataset):
            raise ValueError(f"Expected icl_bayes.Dataset(x=X, y=y); received {type(dataset).__name__}.")
        return self.task.prepare(dataset)

    def padded_length(self, num_rows: int) -> int:
        """The length that rows are padded to; the flat encoder has one length of its own."""
        model = self.network.config.model
        if self.task.has_fixed_rows:
            return num_rows
        return max(model.mlp_rows, num_rows) if model.encoder == "mlp" else padded_length(num_rows)

    def base_of(self, padded: Dataset) -> Affine | GaussianModes:
        """The base of a prepared and padded data set, ``theta = shift + scale @ noise``, or several of them."""
        known = self._known_base(("one", padded.padded_rows))
        if known is not None:
            return jax.device_get(known.call(self.params, padded))[0]
        return self.programs.run("base", self.network.find_base, self.params, padded).outputs[0]

    def whitening(self, padded: Dataset) -> Affine | GaussianModes | None:
        """The base, where it is computed from the likelihood."""
        return self.base_of(padded) if self.network.config.model.base in LIKELIHOOD_BASES else None

    def more(self, rng_key: Array, padded: Dataset, num_draws: int, times: int) -> tuple[np.ndarray, np.ndarray] | None:
        """See :class:`icl_bayes.inference.refinement.Source`; where gradients are cheap a few moves cost less."""
        if not self.task.has_dear_gradients or self.solver.method == "dopri5":
            return None
        keys = [jax.random.fold_in(rng_key, index) for index in range(times)]
        found = [self._draw(key, padded, num_draws, self.solver, with_log_prob=True) for key in keys]
        log_weights = [np.asarray(one.densities.log_weight) for one in found]
        return np.concatenate([one.theta for one in found]), np.concatenate(log_weights)

    def _draw(
        self,
        rng_key: Array,
        prepared: Dataset,
        num_draws: int,
        solver: Solver,
        polish: int = 0,
        with_log_prob: bool = False,
    ) -> _Drawn:
        length = self.padded_length(prepared.padded_rows)
        padded = prepared.pad_rows(length)
        size = min(num_draws, CHUNK)
        key = ("one", length, size, polish, with_log_prob, solver)
        program = self._program(key, rng_key, padded, size, solver, polish, with_log_prob)
        thetas, sites, rates, densities = [], [], [], []
        decrement, rival, step_size = 0.0, -np.inf, 0.0
        base = program.find_base(self.params, padded)
        for first in range(0, num_draws, size):
            found = program.flow(self.params, rng_key, padded, jnp.asarray(first), base)
            draws, named, moves, density = jax.device_get(found)
            self._require_finite(draws)
            thetas.append(draws.theta)
            sites.append(named)
            rates.append(float(moves.acceptance))
            densities.append(density)
            decrement, rival, step_size = float(draws.decrement), float(draws.rival), float(moves.step_size)
        theta = np.concatenate(thetas)[:num_draws]
        named = {name: np.concatenate([one[name] for one in sites])[:num_draws] for name in self.task.outputs}
        joined = jax.tree.map(lambda *leaves: np.concatenate(leaves)[:num_draws], *densities)
        return _Drawn(theta, named, decrement, rival, float(np.mean(rates)), step_size, joined)

    def _program(
        self,
        key: tuple,
        rng_key: Array,
        dataset: Dataset,
        size: int,
        solver: Solver,
        polish: int,
        with_log_prob: bool = False,
    ) -> Program:
        """The compiled sampler for a shape, built at most once."""
        with self._lock:
            if key not in self._programs:
                identity = json.dumps([dataclasses.asdict(self.network.config), key[:-1], repr(solver)])
                shape = key[: 3 if key[0] == "batch" else 2]
                self._programs[key] = compile_sampler(
                    Sampler(self.network, size, solver, polish, key[0] == "batch", with_log_prob),
                    (self.params, rng_key, dataset, jnp.asarray(0)),
                    lower if self.store is None else partial(self.store.lower, identity=identity),
                    self._known_base(shape),
                )
                self.compilations += 1
            return self._programs[key]

    def _known_base(self, shape: tuple) -> CompiledBase | None:
        """Of programs for the same shapes, whose keys start with ``shape``."""
        return next((one.base for key, one in list(self._programs.items()) if key[: len(shape)] == shape), None)

    def _require_finite(self, draws: ThetaDraws) -> None:
        if not bool(draws.is_finite):
            raise ValueError(
                f"The network {self.label!r} produced draws that are not finite for this data set, so no posterior is "
                "returned. Look for extreme values in the data, or use a reference method (baselines.NUTS)."
            )
