"""Reference draws: what every method is scored against, with the checks they had to pass.

Where the posterior can be sampled exactly, it is; where it has few dimensions and, by nature, several modes
(factor analysis), by importance resampling; where modes lie far apart (mixtures, loadings), by independent runs
of tempered sequential Monte Carlo, which have to agree. Elsewhere four long NUTS chains run in the
whitened coordinates of the best of many modes, start in modes as far apart as there are any
with a say, and are thinned until draws are near-independent. Checks that can fail: R-hat,
divergences, efficiency after thinning, and the agreement of two independent halves.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from icl_bayes.baselines.common import check_num_draws, constrain_draws, verdict
from icl_bayes.baselines.diagnostics import (
    ChainLimits,
    chain_health,
    halves_disagreement,
    judge_chains,
    thinned_efficiency,
)
from icl_bayes.baselines.exact import ExactSampler, supports_exact
from icl_bayes.baselines.gaussians import ascend
from icl_bayes.baselines.importance import ImportanceSampler, supports_importance
from icl_bayes.baselines.nuts import NutsChains, run_nuts
from icl_bayes.baselines.programs import ProgramCache
from icl_bayes.baselines.smc import SMCSampler, supports_smc
from icl_bayes.compiler import HALF_OPTIMIZED
from icl_bayes.flow import Affine, variational_gaussian
from icl_bayes.tasks import Task
from icl_bayes.types import AnyArray, Array, Dataset, SampleResult

_LIMITS = ChainLimits(r_hat=1.01, ess=1000.0, divergences=1e-3)
_NUM_CHAINS = 4
_NUM_WARMUP = 1000
_MAX_ATTEMPTS = 3
_MIN_EFFICIENCY = 0.9
_MAX_DISAGREEMENT = 4.5  # of a dozen z-scores: by chance, one data set in ten thousand
_NUM_MODE_STARTS = 24
_NEAR = 0.3  # prior standard deviations
_MODE_STEPS = 40
_EVIDENCE_GAP = 10.0  # nats: a basin with less than exp(-10) of the best one's mass has no say


class Modes(NamedTuple):
    """What the search from many starts found.

    Attributes:
        best: the closest Gaussian, found from the mode with the largest Laplace evidence.
        starts: ``(num_chains, dim)``, modes with a say, chosen far apart.
        spread: ``()``, largest distance of a mode with a say from the best one, in its
            standard deviations.
    """

    best: Affine
    starts: Array
    spread: Array


def find_modes(rng_key: Array, task: Task, dataset: Dataset, extra_starts: Array) -> Modes:
    """Modes reached from the task's starting point, around it, and from prior draws; traceable."""

    noise = jax.random.normal(rng_key, (_NUM_MODE_STARTS, task.dim))
    starts = task.starting_points(dataset)
    near = starts[0] + _NEAR * noise[: _NUM_MODE_STARTS // 2]
    everywhere = jnp.concatenate([starts, extra_starts, near, noise[len(near) :]])
    affines, evidence, _ = jax.vmap(lambda start: ascend(task, dataset, start, _MODE_STEPS))(everywhere)
    best: Affine = jax.tree.map(lambda leaf: leaf[jnp.argmax(evidence)], affines)
    has_say = evidence > jnp.max(evidence) - _EVIDENCE_GAP

    def distance(center: Array) -> Array:
        whitened = best.backward(affines.shift) - best.backward(center)
        return jnp.where(has_say, jnp.linalg.norm(whitened, axis=1), -1.0)

    centers, nearest = [best.shift], distance(best.shift)
    spread = jnp.max(nearest)
    for _ in range(_NUM_CHAINS - 1):  # greedily the farthest from all chosen so far
        centers.append(affines.shift[jnp.argmax(nearest)])
        nearest = jnp.minimum(nearest, distance(centers[-1]))
    # The closest Gaussian whitens ridges and kinks better than the mode's.
    whitening, _ = variational_gaussian(lambda theta: task.log_joint(theta, dataset), best)
    return Modes(whitening, jnp.stack(centers), spread)


_HOPELESS = 1.5  # R-hat


@dataclass(frozen=True)
class Effort:
    """What an attempt spends: transitions per draw kept, and the kernel's target acceptance."""

    thinning: int = 8
    target_accept: float = 0.9

    def raised_for(self, health: dict[str, float]) -> Effort:
        """More of what would mend dependent draws or divergences; the same effort if neither is at fault.

        Chains that stay apart, each in a mode of its own, are not brought together by running longer.
        """
        if not health["r_hat"] < _HOPELESS:
            return self
        dependent = not health["efficiency"] >= _MIN_EFFICIENCY
        divergent = health["divergences"] > _LIMITS.divergences
        return Effort(5 * self.thinning if dependent else self.thinning, 0.99 if divergent else self.target_accept)


_FIRST_EFFORT = Effort()


@dataclass(frozen=True)
class ReferenceSampler:
    """Reference draws of any task; exact where possible.

    Attributes:
        task: the model.
        effort: of the first attempt. Up to two more follow, with more effort, where that can help.
        quick: compile in a hurry, which pays for up to a dozen data sets.
        num_particles: of each run of tempered SMC.
    """

    task: Task
    effort: Effort = _FIRST_EFFORT
    quick: bool = False
    num_particles: int = 2000
    name: str = "reference"
    programs: ProgramCache = field(default_factory=ProgramCache, init=False, repr=False, compare=False)

    @cached_property
    def importance(self) -> ImportanceSampler:
        """Its compiled program is kept."""
        return ImportanceSampler(self.task)

    @cached_property
    def smc(self) -> SMCSampler:
        """Likewise."""
        return SMCSampler(self.task, self.num_particles, quick=self.quick)

    def sample(
        self, rng_key: Array, dataset: Dataset, num_draws: int = 2000, extra_starts: AnyArray | None = None
    ) -> SampleResult:
        """Near-independent draws in random order, status ``failed`` unless every check passed.

        Args:
            extra_starts: ``(k, dim)``, further points where the search for modes begins, such as
                the generating ``theta`` of simulated data. They compete with all others.

        ``health`` of an exact reference is the exact sampler's, likewise by importance and SMC. Otherwise it holds
        ``r_hat``, ``ess`` (before thinning), ``divergences``, ``efficiency`` (effective draws per draw
        kept), ``disagreement`` (largest z-score between halves) and ``mode_spread``.
        """
        check_num_draws(num_draws)
        if supports_exact(self.task):
            return ExactSampler(self.task).sample(rng_key, dataset, num_draws)
        if supports_importance(self.task):
            return self.importance.sample(rng_key, dataset, num_draws)
        if supports_smc(self.task):
            return self.smc.sample(rng_key, dataset, num_draws)
        dataset = self.task.prepare(dataset)
        starts = np.zeros((0, self.task.dim)) if extra_starts is None else np.asarray(extra_starts)
        effort, seconds_compile, seconds_run = self.effort, 0.0, 0.0
        for attempt in range(1, _MAX_ATTEMPTS + 1):
            result = self._attempt(effort, rng_key, dataset, num_draws, starts)
            seconds_compile, seconds_run = seconds_compile + result.seconds_compile, seconds_run + result.seconds_run
            raised = effort.raised_for(result.health)
            if result.status == "ok" or raised == effort or attempt == _MAX_ATTEMPTS:
                return replace(result, seconds_compile=seconds_compile, seconds_run=seconds_run)
            effort = raised
        raise AssertionError("the last attempt returns")

    def _attempt(
        self, effort: Effort, rng_key: Array, dataset: Dataset, num_draws: int, starts: np.ndarray
    ) -> SampleResult:
        per_chain = -(-num_draws // _NUM_CHAINS) * effort.thinning
        chains_fn = self._chains_fn(per_chain, effort)
        options = HALF_OPTIMIZED if self.quick else None
        call = self.programs.run((per_chain, effort), chains_fn, rng_key, dataset, starts, options=options)
        chains, sites, spread = call.outputs
        compared = self._by_chain(self.task.compared_matrix(sites))
        health = chain_health(np.concatenate([chains.thetas, compared], axis=-1), chains.diverging)
        health |= {
            "efficiency": thinned_efficiency(compared, effort.thinning),
            "disagreement": halves_disagreement(compared),
            "mode_spread": float(spread),
        }
        failures, warnings = judge_chains(health, _LIMITS)
        if not health["efficiency"] >= _MIN_EFFICIENCY:
            failures.append(
                f"draws are not near-independent: efficiency {health['efficiency']:.2f} (limit {_MIN_EFFICIENCY})"
            )
        if not health["disagreement"] <= _MAX_DISAGREEMENT:
            failures.append(
                f"independent halves disagree: z-score {health['disagreement']:.1f} (limit {_MAX_DISAGREEMENT})"
            )
        status, message = verdict([*failures, *warnings], [])  # a reference has no half-measures
        generator = np.random.default_rng(np.ravel(jax.random.key_data(rng_key)))
        order = generator.permutation(_NUM_CHAINS * (per_chain // effort.thinning))[:num_draws]
        kept = {name: self._thin(values, effort.thinning)[order] for name, values in sites.items()}
        return SampleResult(kept, call.seconds_compile, call.seconds_run, status, message, health)

    def _chains_fn(self, per_chain: int, effort: Effort) -> Any:
        def draw(rng_key: Array, dataset: Dataset, extra_starts: Array) -> tuple[NutsChains, dict[str, Array], Array]:
            mode_key, start_key, chain_key = jax.random.split(rng_key, 3)
            modes = find_modes(mode_key, self.task, dataset, extra_starts)

            def whitened_log_density(u: Array) -> Array:
                return self.task.log_joint(modes.best.forward(u), dataset)

            at_modes = modes.best.backward(modes.starts)
            scattered = at_modes + jax.random.normal(start_key, at_modes.shape)
            usable = jnp.isfinite(jax.vmap(whitened_log_density)(scattered))
            chains = run_nuts(
                chain_key,
                whitened_log_density,
                self.task.dim,
                per_chain,
                num_warmup=_NUM_WARMUP,
                num_chains=_NUM_CHAINS,
                starts=jnp.where(usable[:, None], scattered, at_modes),
                target_accept_prob=effort.target_accept,
            )
            chains = chains._replace(thetas=modes.best.forward(chains.thetas))
            sites = constrain_draws(self.task, chains.thetas.reshape(-1, self.task.dim), dataset)
            return chains, sites, modes.spread

        return draw

    def _by_chain(self, values: np.ndarray) -> np.ndarray:
        return values.reshape(_NUM_CHAINS, -1, *values.shape[1:])

    def _thin(self, values: np.ndarray, thinning: int) -> np.ndarray:
        kept = self._by_chain(values)[:, thinning - 1 :: thinning]
        return kept.reshape(-1, *values.shape[1:])


@lru_cache(maxsize=8)
def _sampler(task: Task, quick: bool, num_particles: int) -> ReferenceSampler:
    return ReferenceSampler(task, quick=quick, num_particles=num_particles)


def reference_draws(
    task: Task,
    dataset: Dataset,
    rng_key: Array,
    num_draws: int = 2000,
    extra_starts: AnyArray | None = None,
    *,
    quick: bool = False,
    num_particles: int = 2000,
) -> SampleResult:
    """Reference draws for one data set, see :class:`ReferenceSampler`; programs are kept per task.

    A result whose status is ``failed`` is to be listed with its message, not scored.
    """
    return _sampler(task, quick, num_particles).sample(rng_key, dataset, num_draws, extra_starts)
