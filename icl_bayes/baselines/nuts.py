"""NumPyro's no-U-turn sampler, as people call it and as fast as it can be called.

``mode="mcmc_run"`` is a plain ``MCMC.run``; ``mode="jit"`` is the same kernel, warm-up and all,
inside one compiled program, for one data set or many. Both see ``task.log_joint`` in the task's
coordinates, hence the same law.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro import handlers
from numpyro.distributions import constraints
from numpyro.infer import MCMC, NUTS
from numpyro.infer.hmc import hmc

from icl_bayes.baselines.common import (
    check_num_draws,
    constrain_draws,
    log_joint_of,
    verdict,
)
from icl_bayes.baselines.diagnostics import ChainLimits, chain_health, judge_chains
from icl_bayes.baselines.gaussians import best_mode, laplace_of
from icl_bayes.baselines.programs import ProgramCache
from icl_bayes.compiler import QUICK_TO_COMPILE
from icl_bayes.tasks import Task
from icl_bayes.types import Array, Dataset, SampleResult

MODES = ("mcmc_run", "jit")
STRATEGIES = ("vmap", "map")
STARTS = ("uniform", "laplace")
_DEFAULT_LIMITS = ChainLimits()
_MAX_EXCESS = 20.0  # nats
_START_RADIUS = 2.0  # NumPyro's own: uniform in (-2, 2) per coordinate
_START_TRIALS = 16


class NutsChains(NamedTuple):
    """Post-warm-up chains.

    Attributes:
        thetas: ``(chain, draw, dim)``.
        diverging: ``(chain, draw)`` boolean.
        num_steps: ``(chain, draw)`` leapfrog steps of each transition.
        log_density: ``(chain, draw)``, unnormalized.
    """

    thetas: Array
    diverging: Array
    num_steps: Array
    log_density: Array


def uniform_start(rng_key: Array, log_density_fn: Callable[[Array], Array], dim: int) -> Array:
    """NumPyro's default start ``(dim,)``: uniform in (-2, 2), the first of 16 trials with finite density."""
    trials = jax.random.uniform(rng_key, (_START_TRIALS, dim), minval=-_START_RADIUS, maxval=_START_RADIUS)
    return trials[jnp.argmax(jnp.isfinite(jax.vmap(log_density_fn)(trials)))]


def run_nuts(
    rng_key: Array,
    log_density_fn: Callable[[Array], Array],
    dim: int,
    draws_per_chain: int,
    *,
    num_warmup: int = 500,
    num_chains: int = 1,
    starts: Array | None = None,
    **kernel_options: Any,
) -> NutsChains:
    """Warm-up and sampling of all chains in one traceable call (chains are vectorized).

    Args:
        log_density_fn: ``(dim,)`` to ``()``, unnormalized.
        starts: ``(num_chains, dim)``; by default as NumPyro starts, see :func:`uniform_start`.
        **kernel_options: NumPyro's, such as ``target_accept_prob`` or ``dense_mass``.
    """
    start_key, chain_key = jax.random.split(rng_key)
    if starts is None:
        start_keys = jax.random.split(start_key, num_chains)
        starts = jax.vmap(lambda key: uniform_start(key, log_density_fn, dim))(start_keys)

    def one_chain(kernel_key: Array, start: Array) -> NutsChains:
        init_kernel, sample_kernel = hmc(lambda theta: -log_density_fn(theta), algo="NUTS")
        state = init_kernel(start, num_warmup, rng_key=kernel_key, **kernel_options)

        def step(state: Any, _: None) -> tuple[Any, NutsChains]:
            state = sample_kernel(state)
            return state, NutsChains(state.z, state.diverging, state.num_steps, -state.potential_energy)

        # One loop for both phases, since the kernel dominates the time to compile.
        _, trace = jax.lax.scan(step, state, None, length=num_warmup + draws_per_chain)
        return jax.tree.map(lambda leaf: leaf[num_warmup:], trace)

    keys = jax.random.split(chain_key, num_chains)
    if num_chains == 1:  # a vectorized tree would evaluate both branches of every decision
        return jax.tree.map(lambda leaf: leaf[None], one_chain(keys[0], starts[0]))
    return jax.vmap(one_chain)(keys, starts)


@dataclass(frozen=True)
class NutsSampler:
    """NUTS with its health checked.

    Attributes:
        task: the model.
        mode: ``mcmc_run`` or ``jit`` (see the module).
        num_warmup, num_chains: the paper's 500 and 1 by default.
        target_accept, max_tree_depth, dense_mass: of the kernel, NumPyro's defaults.
        thinning: transitions per draw kept.
        start: ``uniform``, as NumPyro starts, or ``laplace``, a draw of the Laplace approximation
            for every chain: dearer, but out of reach of spurious modes.
        limits: what the chains must meet; otherwise the result is a warning or a failure.
    """

    task: Task
    mode: str = "mcmc_run"
    num_warmup: int = 500
    num_chains: int = 1
    thinning: int = 1
    target_accept: float = 0.8
    max_tree_depth: int = 10
    dense_mass: bool = False
    start: str = "uniform"
    limits: ChainLimits = _DEFAULT_LIMITS
    name: str = "nuts"
    programs: ProgramCache = field(default_factory=ProgramCache, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"Unknown NUTS mode {self.mode!r}; choices: {', '.join(MODES)}.")
        if self.start not in STARTS:
            raise ValueError(f"Unknown start {self.start!r} of NUTS; choices: {', '.join(STARTS)}.")
        if self.num_warmup < 0 or min(self.num_chains, self.thinning, self.max_tree_depth) < 1:
            raise ValueError(
                "NUTS needs num_warmup >= 0 and at least 1 for num_chains, thinning and max_tree_depth; received "
                f"{self.num_warmup}, {self.num_chains}, {self.thinning} and {self.max_tree_depth}."
            )
        if not 0.0 < self.target_accept < 1.0:
            raise ValueError(f"target_accept must lie between 0 and 1; received {self.target_accept}.")

    def sample(self, rng_key: Array, dataset: Dataset, num_draws: int) -> SampleResult:
        """``num_draws`` draws in all, the chains interleaved.

        Convergence is judged after the clock has stopped. In mode ``mcmc_run`` nothing can be
        compiled ahead, so the first call for a shape runs twice: the second run is timed, and
        what the first took beyond it counts as compilation.
        """
        check_num_draws(num_draws)
        dataset = self.task.prepare(dataset)
        if self.mode == "jit":
            call = self.programs.run(num_draws, self._draw_fn(num_draws), rng_key, dataset)
            chains, sites = call.outputs
            return self._result(dataset, chains, sites, call.seconds_compile, call.seconds_run)
        return self._sample_with_mcmc(rng_key, dataset, num_draws)

    def sample_batch(
        self, rng_key: Array, datasets: Dataset, num_draws: int, strategy: str = "vmap"
    ) -> list[SampleResult]:
        """Draws for several data sets in one compiled program.

        Args:
            datasets: data sets stacked leaf by leaf, leading axis the data set.
            strategy: ``vmap`` (all in lockstep) or ``map`` (one after the other, no lockstep).

        Returns:
            One result per data set. The seconds are the whole batch's, shared equally.

        Raises:
            ValueError: for an unknown strategy.
        """
        check_num_draws(num_draws)
        if strategy not in STRATEGIES:
            raise ValueError(f"Unknown strategy {strategy!r}; choices: {', '.join(STRATEGIES)}.")
        draw_one = self._draw_fn(num_draws)

        def draw_all(rng_key: Array, datasets: Dataset) -> Any:
            keys = jax.random.split(rng_key, datasets.row_mask.shape[0])
            if strategy == "vmap":
                return jax.vmap(draw_one)(keys, datasets)
            return jax.lax.map(lambda pair: draw_one(*pair), (keys, datasets))

        call = self.programs.run((strategy, num_draws), draw_all, rng_key, datasets)
        num_datasets = int(datasets.row_mask.shape[0])
        seconds = (call.seconds_compile / num_datasets, call.seconds_run / num_datasets)
        results = []
        for i in range(num_datasets):
            dataset, (chains, sites) = jax.tree.map(lambda leaf, i=i: leaf[i], (datasets, call.outputs))
            results.append(self._result(dataset, chains, sites, *seconds))
        return results

    @property
    def _kernel_options(self) -> dict[str, Any]:
        return {
            "target_accept_prob": self.target_accept,
            "max_tree_depth": self.max_tree_depth,
            "dense_mass": self.dense_mass,
        }

    def _laplace_starts(self, rng_key: Array, dataset: Dataset) -> Array:
        affine, _ = laplace_of(self.task, dataset)
        return affine.forward(jax.random.normal(rng_key, (self.num_chains, self.task.dim)))

    def _draws_per_chain(self, num_draws: int) -> int:
        return -(-num_draws // self.num_chains)

    def _draw_fn(self, num_draws: int) -> Callable[[Array, Dataset], tuple[NutsChains, dict[str, Array]]]:
        def draw(rng_key: Array, dataset: Dataset) -> tuple[NutsChains, dict[str, Array]]:
            transitions = self._draws_per_chain(num_draws) * self.thinning
            start_key, chain_key = jax.random.split(rng_key)
            chains = run_nuts(
                chain_key,
                partial(log_joint_of, self.task, dataset),
                self.task.dim,
                transitions,
                num_warmup=self.num_warmup,
                num_chains=self.num_chains,
                starts=None if self.start == "uniform" else self._laplace_starts(start_key, dataset),
                **self._kernel_options,
            )
            kept = chains.thetas[:, self.thinning - 1 :: self.thinning]
            # Chains are interleaved, so that cutting to num_draws takes evenly from all.
            thetas = jnp.swapaxes(kept, 0, 1).reshape(-1, self.task.dim)[:num_draws]
            return chains, constrain_draws(self.task, thetas, dataset)

        return draw

    def _sample_with_mcmc(self, rng_key: Array, dataset: Dataset, num_draws: int) -> SampleResult:
        leaves, structure = jax.tree.flatten(dataset)
        signature = (num_draws, structure, tuple(np.shape(leaf) for leaf in leaves))
        first_seconds = None
        runner, is_new = self.programs.keep(signature, lambda: self._make_mcmc(num_draws))
        if is_new:
            _, _, first_seconds = self._run_mcmc(runner, rng_key, dataset, num_draws)
        chains, sites, seconds = self._run_mcmc(runner, rng_key, dataset, num_draws)
        seconds_compile = 0.0 if first_seconds is None else max(first_seconds - seconds, 0.0)
        return self._result(dataset, chains, sites, seconds_compile, seconds)

    def _make_mcmc(self, num_draws: int) -> MCMC:
        return MCMC(
            NUTS(self._program, **self._kernel_options),
            num_warmup=self.num_warmup,
            num_samples=self._draws_per_chain(num_draws) * self.thinning,
            num_chains=self.num_chains,
            chain_method="vectorized",
            progress_bar=False,
            jit_model_args=True,
        )

    def _program(self, dataset: Dataset) -> None:
        """The posterior as a NumPyro program in ``theta``: no prior but the log joint itself."""
        theta = numpyro.sample("theta", dist.ImproperUniform(constraints.real_vector, (), (self.task.dim,)))
        with handlers.block():  # the task runs its own program; its sites are no sites of this one
            log_joint = self.task.log_joint(jnp.asarray(theta), dataset)
        numpyro.factor("log_joint", log_joint)

    def _run_mcmc(
        self, mcmc: MCMC, rng_key: Array, dataset: Dataset, num_draws: int
    ) -> tuple[NutsChains, dict[str, np.ndarray], float]:
        started = time.perf_counter()
        init_params = None
        if self.start == "laplace":
            start_key, rng_key = jax.random.split(rng_key)
            starts = self.programs.run("starts", self._laplace_starts, start_key, dataset).outputs
            init_params = {"theta": starts if self.num_chains > 1 else starts[0]}
        mcmc.run(rng_key, dataset, extra_fields=("num_steps", "potential_energy"), init_params=init_params)
        fields = mcmc.get_extra_fields(group_by_chain=True)
        thetas = mcmc.get_samples(group_by_chain=True)["theta"]
        log_density = -fields["potential_energy"]
        chains = jax.device_get(NutsChains(thetas, fields["diverging"], fields["num_steps"], log_density))
        kept = np.swapaxes(chains.thetas[:, self.thinning - 1 :: self.thinning], 0, 1)
        thetas = kept.reshape(-1, self.task.dim)[:num_draws]
        call = self.programs.run("constrain", partial(constrain_draws, self.task), thetas, dataset)
        return chains, call.outputs, time.perf_counter() - started

    def _result(
        self,
        dataset: Dataset,
        chains: NutsChains,
        sites: dict[str, np.ndarray],
        seconds_compile: float,
        seconds_run: float,
    ) -> SampleResult:
        health = chain_health(chains.thetas, chains.diverging)
        failures, warnings = judge_chains(health, self.limits)
        peak = float(self.programs.run("peak", self._peak, dataset, options=QUICK_TO_COMPILE).outputs)
        health["steps_per_draw"] = float(np.mean(chains.num_steps)) * self.thinning
        # A Gaussian posterior lies dim / 2 below its peak on average. R-hat cannot see a single
        # chain, or all of them, caught by a spurious mode; this can.
        health["nats_below_peak"] = peak - float(np.min(np.mean(chains.log_density, axis=1)))
        if health["nats_below_peak"] > 0.5 * self.task.dim + _MAX_EXCESS:
            failures.append(
                f"a chain is caught in a spurious mode: on average {health['nats_below_peak']:.0f} nats below "
                f"the Laplace mode, where about {0.5 * self.task.dim:.0f} are expected"
            )
        status, message = verdict(failures, warnings)
        return SampleResult(sites, seconds_compile, seconds_run, status, message, health)

    def _peak(self, dataset: Dataset) -> Array:
        """Log joint near its best mode: Fisher scoring alone is close enough for the limit above."""
        return log_joint_of(self.task, dataset, best_mode(self.task, dataset).affine.shift)
