"""Near-exact draws where modes lie far apart: independent runs of tempered sequential Monte Carlo, which have to agree.

Particles start at the prior and are moved, reweighted and resampled along the likelihood's powers from zero to one
(Del Moral, Doucet and Jasra, 2006; the powers adapt). Labels of exchangeable components are then permuted at random,
which is exact by symmetry. What a run misses, it misses by chance, so that independent runs differ: the reference fails
unless their means of label-free features and their evidences agree.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import blackjax
import jax
import jax.numpy as jnp
import numpy as np
from blackjax.smc.resampling import systematic

from icl_bayes.baselines.common import check_num_draws, constrain_draws, verdict
from icl_bayes.baselines.moves import default_step_size
from icl_bayes.baselines.programs import ProgramCache
from icl_bayes.compiler import LESS_OPTIMIZED
from icl_bayes.tasks import Task
from icl_bayes.types import Array, Dataset, SampleResult

_ACCEPTANCE = 0.8
_MAX_STAGES = 200
_NARROW_SHARE, _NARROW_STEP = 0.25, 0.15
"""Share of moves with a shorter step, and by how much: others are refused where a posterior is narrower than
elsewhere."""
_LIMIT_DISTINCT = 0.95
"""Least share of particles that are no copies of others: runs may agree on means of draws that never moved."""
_MANY_ROWS, _BATCH = 200, 50
"""From so many rows on a CPU moves so many particles at once, whose densities by row then stay in its cache."""
_START_ROUNDS = 8
"""Times as many prior draws as particles, among which those are that data are possible under."""
_LIMIT_DISAGREEMENT = 0.15
"""Largest standard deviation of a run's mean of a feature, in posterior standard deviations."""
_LIMIT_EVIDENCE = 0.5
"""Largest standard deviation of a run's log evidence, in nats."""


@dataclass(frozen=True)
class SMCSettings:
    """Effort of one run.

    Attributes:
        target_ess: share of effective particles that decides how far the next power is.
        num_moves, num_leapfrogs: HMC moves at every power, and steps of each.
        num_final_moves: at power one.
    """

    target_ess: float = 0.7
    num_moves: int = 6
    num_leapfrogs: int = 8
    num_final_moves: int = 24


def supports_smc(task: Task) -> bool:
    """Whether this is the reference of a task: its posteriors may have modes that chains do not cross."""
    return (task.num_exchangeable > 0 or task.has_far_modes) and not task.nuisance


class SMCRun(NamedTuple):
    """One run.

    Attributes:
        thetas: ``(num_particles, dim)``.
        log_evidence: ``()``.
        stages: ``()``, how many powers there were.
        acceptance: ``()``, of the last moves.
        reached: ``()``, whether the power reached one.
    """

    thetas: Array
    log_evidence: Array
    stages: Array
    acceptance: Array
    reached: Array


def tempered_run(task: Task, num_particles: int, settings: SMCSettings, rng_key: Array, dataset: Dataset) -> SMCRun:
    """Tempered SMC with HMC moves whose step size follows the acceptance; traceable."""
    start_key, loop_key, end_key = jax.random.split(rng_key, 3)
    starts, log_share = possible_starts(task, num_particles, start_key, dataset)
    hmc = blackjax.hmc.build_kernel()

    def move(key: Array, state: Any, log_density_fn: Any, step_size: Array) -> Any:
        jitter_key, narrow_key, move_key = jax.random.split(key, 3)
        step_size = step_size * jax.random.uniform(jitter_key, minval=0.6, maxval=1.2)
        step_size = step_size * jnp.where(jax.random.bernoulli(narrow_key, _NARROW_SHARE), _NARROW_STEP, 1.0)
        return hmc(move_key, state, log_density_fn, step_size, jnp.ones(task.dim), settings.num_leapfrogs)

    in_batches = jax.default_backend() == "cpu" and dataset.padded_rows >= _MANY_ROWS and num_particles % _BATCH == 0
    kernel = blackjax.smc.adaptive_tempered.build_kernel(
        lambda theta: task.log_prior(theta, dataset),
        lambda theta: task.log_likelihood(theta, dataset),
        move,
        blackjax.hmc.init,
        systematic,
        settings.target_ess,
        batch_size=_BATCH if in_batches else 0,
    )

    def stage(carry: tuple[Any, ...], num_moves: int) -> tuple[Any, ...]:
        state, key, log_step, log_evidence, count, _ = carry
        key, stage_key = jax.random.split(key)
        state, info = kernel(stage_key, state, num_moves, {"step_size": jnp.exp(log_step)[None]})
        acceptance = jnp.mean(info.update_info.acceptance_rate)
        log_step = log_step + 2.0 * (acceptance - _ACCEPTANCE)
        return state, key, log_step, log_evidence + info.log_likelihood_increment, count + 1, acceptance

    zero, log_step = jnp.zeros(()), jnp.log(default_step_size(task.dim))
    start = blackjax.smc.adaptive_tempered.init(starts)._replace(tempering_param=zero)
    carry = start, loop_key, log_step, log_share, 0, zero
    carry = jax.lax.while_loop(
        lambda carry: (carry[0].tempering_param < 1.0) & (carry[4] < _MAX_STAGES),
        partial(stage, num_moves=settings.num_moves),
        carry,
    )
    reached = carry[0].tempering_param >= 1.0
    log_evidence = carry[3]
    # At power one: resampled once more, then moved until draws that share an ancestor have parted.
    carry = (*carry[:3], zero, *carry[4:])
    carry = stage(carry, settings.num_final_moves)
    thetas = carry[0].particles
    if task.num_exchangeable:
        keys = jax.random.split(end_key, num_particles)
        orders = jax.vmap(lambda key: jax.random.permutation(key, task.num_exchangeable))(keys)
        thetas = jax.vmap(task.relabel)(thetas, orders)
    return SMCRun(thetas, log_evidence, carry[4], carry[5], reached)


def possible_starts(task: Task, num: int, rng_key: Array, dataset: Dataset) -> tuple[Array, Array]:
    """Prior draws ``(num, dim)`` of which the likelihood is not zero, and the log of their share ``()``; traceable.

    Without them the first power would have to lie at zero, where the weight of a likelihood of zero jumps. Draws are
    repeated where there are too few; the share is zero where there are none.
    """

    def draws(key: Array) -> tuple[Array, Array]:
        thetas = jax.vmap(lambda key: task.sample_prior(key, dataset))(jax.random.split(key, num))
        return thetas, jax.vmap(lambda theta: task.log_likelihood(theta, dataset))(thetas) > -jnp.inf

    keys = jnp.stack([rng_key, *(jax.random.fold_in(rng_key, index) for index in range(1, _START_ROUNDS))])
    thetas, is_possible = jax.tree.map(jnp.concatenate, jax.lax.map(draws, keys))
    count = jnp.sum(is_possible)
    order = jnp.argsort(~is_possible, stable=True)[jnp.arange(num) % jnp.maximum(count, 1)]
    return thetas[order], jnp.log(count / len(thetas))


def label_free_features(task: Task, sites: dict[str, np.ndarray]) -> np.ndarray:
    """``(num_draws, k)`` functions of draws that no permutation of exchangeable components changes.

    Of every coordinate of the components: the values in order; of every site: moments mixed over coordinates.
    Without such components the compared coordinates and their squares.
    """
    if not task.num_exchangeable:
        values = task.compared_matrix(sites)
        return np.concatenate([values, values**2], axis=1)
    columns = [np.asarray(sites[name], np.float64) for name in task.sites]
    columns = [column.reshape(*column.shape[:2], -1) for column in columns]  # (draw, component, k)
    ordered = [np.sort(column, axis=1).reshape(len(column), -1) for column in columns]
    joined = np.concatenate(columns, axis=2)
    # Products of pairs of coordinates within a component, summed over components: what belongs together.
    pairs = np.einsum("nmi,nmj->nij", joined, joined)
    upper = np.triu_indices(joined.shape[2])
    return np.concatenate([*ordered, pairs[:, upper[0], upper[1]]], axis=1)


@dataclass(frozen=True)
class SMCSampler:
    """Independent runs, pooled if they agree.

    Attributes:
        task: the model, without nuisance sites.
        num_particles: of each run; a part of them is kept.
        num_runs: at least two.
        settings: of each run.
        quick: compile with less care, which pays for a data set or two.
    """

    task: Task
    num_particles: int = 2000
    num_runs: int = 4
    settings: SMCSettings = SMCSettings()
    quick: bool = False
    name: str = "smc"
    programs: ProgramCache = field(default_factory=ProgramCache, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.task.nuisance or self.num_runs < 2:
            raise ValueError(
                f"Tempered SMC needs a task without nuisance sites and at least two runs; {self.task.name!r} has "
                f"{self.task.nuisance}, and {self.num_runs} run(s) were asked for."
            )

    def sample(self, rng_key: Array, dataset: Dataset, num_draws: int) -> SampleResult:
        """Draws of all runs in random order; fails unless the runs agree.

        ``health``: ``disagreement`` (standard deviation of a run's mean, the largest over label-free features, in
        posterior standard deviations), ``evidence_sd`` and ``log_evidence`` of the runs, ``distinct`` (share of
        particles), ``stages``, ``acceptance``.
        """
        check_num_draws(num_draws)
        if num_draws > self.num_runs * self.num_particles:
            raise ValueError(
                f"num_draws must be at most the {self.num_runs * self.num_particles} particles of all runs; received "
                f"{num_draws}."
            )
        dataset = self.task.prepare(dataset)
        options = LESS_OPTIMIZED if self.quick else None
        call = self.programs.run("runs", self._runs, rng_key, dataset, options=options)
        runs, sites = call.outputs
        features = label_free_features(self.task, sites).reshape(self.num_runs, self.num_particles, -1)
        spread = features.std(axis=(0, 1)) + 1e-12
        means = features.mean(axis=1)
        with np.errstate(invalid="ignore"):  # not a number where data are impossible
            evidence_sd = float(np.std(runs.log_evidence, ddof=1))
        health = {
            "disagreement": float(np.max(means.std(axis=0, ddof=1) / spread)),
            "evidence_sd": evidence_sd,
            "log_evidence": float(np.mean(runs.log_evidence)),
            "distinct": _distinct_share(features),
            "stages": float(np.max(runs.stages)),
            "acceptance": float(np.min(runs.acceptance)),
        }
        failures = []
        if not np.all(runs.reached):
            failures.append(f"a run ended after {_MAX_STAGES} powers, before the posterior")
        if not health["disagreement"] <= _LIMIT_DISAGREEMENT:
            failures.append(
                f"runs disagree: means differ by {health['disagreement']:.2f} posterior standard deviations "
                f"(limit {_LIMIT_DISAGREEMENT})"
            )
        if not np.isfinite(health["log_evidence"]):
            failures.append(f"data are impossible under all {_START_ROUNDS * self.num_particles} prior draws of a run")
        elif not health["evidence_sd"] <= _LIMIT_EVIDENCE:
            failures.append(f"runs disagree on the evidence by {health['evidence_sd']:.2f} nats")
        if not health["distinct"] >= _LIMIT_DISTINCT:
            failures.append(f"only {100.0 * health['distinct']:.0f} % of the particles have left the place of others")
        generator = np.random.default_rng(np.ravel(jax.random.key_data(rng_key)))
        kept = generator.permutation(self.num_runs * self.num_particles)[:num_draws]
        kept_sites = {name: values[kept] for name, values in sites.items()}
        status, message = verdict(failures, [])
        return SampleResult(kept_sites, call.seconds_compile, call.seconds_run, status, message, health)

    def _runs(self, rng_key: Array, dataset: Dataset) -> tuple[SMCRun, dict[str, Array]]:
        run = partial(tempered_run, self.task, self.num_particles, self.settings)
        # An accelerator has room for all runs at once; on a CPU each would wait for the one with the most powers.
        at_once = None if jax.default_backend() == "cpu" else self.num_runs
        runs = jax.lax.map(lambda key: run(key, dataset), jax.random.split(rng_key, self.num_runs), batch_size=at_once)
        sites = constrain_draws(self.task, runs.thetas.reshape(-1, self.task.dim), dataset)
        return runs._replace(thetas=jnp.zeros(())), sites


def _distinct_share(features: np.ndarray) -> float:
    """Of draws with features ``(..., k)``, by the feature that tells most of them apart; others may be rounded."""
    columns = features.reshape(-1, features.shape[-1]).T
    return max(len(np.unique(column)) for column in columns) / columns.shape[1]
