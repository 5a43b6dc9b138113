"""From a network to compiled programs that draw: one that finds the base, one that flows from it.

They are two so that they compile side by side, on a machine with two cores in three quarters of the time.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from icl_bayes.baselines.gaussians import GaussianInfo
from icl_bayes.baselines.mode_moves import mode_moves
from icl_bayes.baselines.moves import NOT_MOVED, NUM_PILOTS, MoveInfo, polish
from icl_bayes.flow import Affine, GaussianModes, Solver
from icl_bayes.flow.bases import Rivals
from icl_bayes.flow.warp import Warp
from icl_bayes.inference.program_store import Lowered
from icl_bayes.training.network import UNKNOWN, Network, ThetaDraws
from icl_bayes.types import AnyArray, Array, Dataset

_PILOTS = 2**31 - 1  # an index no draw has
AT_ONCE = 8
"""Data sets computed side by side; with more, intermediate results no longer fit the caches of a CPU."""


class Densities(NamedTuple):
    """Of draws, ``(num_draws,)`` each, or ``(1,)``, NaN, if not wanted.

    Attributes:
        log_prob: log density of the draws in the units of the model, of the law they come from; NaN also where the base
            has several modes, and it takes a pass of its own.
        log_weight: log importance weight: log joint minus log density, which is the same in all units; with several
            modes, of a draw together with the mode it came from.
    """

    log_prob: AnyArray
    log_weight: AnyArray


Base = tuple[Affine | GaussianModes, GaussianInfo]
Drawn = tuple[ThetaDraws, dict[str, Array], MoveInfo, Densities]
Lower = Callable[[Callable[..., Any], tuple, Any], Lowered]
"""``(fn, arguments, a tree of the structure of the result)`` to a program before compilation."""


@dataclass(frozen=True)
class Sampler:
    """The functions to be compiled.

    Attributes:
        network: whose draws.
        size: draws per call.
        solver: of the ODE.
        num_moves: of every draw after the flow, see :mod:`icl_bayes.baselines.moves`.
        over_datasets: whether keys, data sets and bases are stacked.
        with_log_prob: whether densities are wanted; not after moves, whose law has none that is known.
    """

    network: Network
    size: int
    solver: Solver
    num_moves: int = 0
    over_datasets: bool = False
    with_log_prob: bool = False

    def find_base(self, params: Any, dataset: Dataset) -> Base:
        if self.over_datasets:
            return jax.lax.map(lambda one: self.network.find_base(params, one), dataset, batch_size=AT_ONCE)
        return self.network.find_base(params, dataset)

    def flow(self, params: Any, rng_key: Array, dataset: Dataset, first: Array, base: Base) -> Drawn:
        """Draws ``first`` to ``first + size``, their named sites, and how the moves went."""
        if self.over_datasets:
            stacked = (rng_key, dataset, base)
            return jax.lax.map(lambda one: self._flow(params, first, *one), stacked, batch_size=AT_ONCE)
        return self._flow(params, first, rng_key, dataset, base)

    def _flow(self, params: Any, first: Array, rng_key: Array, dataset: Dataset, base: Base) -> Drawn:
        task = self.network.task
        # One key per draw, by its index: draws do not depend on how they are chunked.
        keys = jax.vmap(lambda index: jax.random.fold_in(rng_key, index))(first + jnp.arange(self.size))
        noise = self.network.draw_noise(keys)
        if not self.num_moves:
            draws = self.network.draw_from(params, dataset, *base, noise, self.solver, with_log_prob=self.with_log_prob)
            sites = jax.vmap(task.constrain, (0, None))(draws.theta, dataset)
            return draws, sites, NOT_MOVED, self._densities(draws, dataset)
        pilot_key, step_key = jax.random.split(jax.random.fold_in(rng_key, _PILOTS))
        noise = jnp.concatenate([noise, self.network.narrow_noise(pilot_key, NUM_PILOTS)])
        draws = self.network.draw_from(params, dataset, *base, noise, self.solver)
        move_keys = jax.vmap(lambda key: jax.random.fold_in(key, 1))(keys)
        starts, pilots = draws.theta[:-NUM_PILOTS], draws.theta[-NUM_PILOTS:]
        start, found = (step_key, move_keys, task, dataset), base[0]
        if isinstance(found, GaussianModes):
            stretches, info = mode_moves(*start, found, starts, pilots, self.num_moves)
        else:
            stretches, info = polish(*start, found, starts, pilots, self.num_moves)
        theta = stretches[-1]
        is_finite = draws.is_finite & jnp.all(jnp.isfinite(theta))
        draws = draws._replace(theta=theta, is_finite=is_finite)
        sites = jax.vmap(task.constrain, (0, None))(draws.theta, dataset)
        return draws, sites, info, Densities(UNKNOWN, UNKNOWN)

    def _densities(self, draws: ThetaDraws, dataset: Dataset) -> Densities:
        if not self.with_log_prob:
            return Densities(draws.log_prob, draws.log_prob)
        task = self.network.task
        log_joint = jax.vmap(task.log_joint, (0, None))(draws.theta, dataset)
        log_volume = jax.vmap(task.log_volume, (0, None))(draws.theta, dataset)
        log_weight = log_joint - draws.log_prob
        # Of a draw and the mode it came from, not of the draw alone.
        if self.network.config.model.base == "modes":
            return Densities(UNKNOWN, log_weight)
        return Densities(draws.log_prob - log_volume, log_weight)


class CompiledBase(NamedTuple):
    """:meth:`Sampler.find_base` compiled, for samplers of all sizes and solvers, and the shape of its result."""

    call: Callable[..., Base]
    out: Any


class Program(NamedTuple):
    """The compiled functions of a :class:`Sampler`."""

    base: CompiledBase
    flow: Callable[..., Drawn]

    def find_base(self, params: Any, dataset: Dataset) -> Base:
        return self.base.call(params, dataset)

    def __call__(self, params: Any, rng_key: Array, dataset: Dataset, first: Array) -> Drawn:
        return self.flow(params, rng_key, dataset, first, self.find_base(params, dataset))


def compile_sampler(
    sampler: Sampler, arguments: tuple[Any, Array, Dataset, Array], lower: Lower, known: CompiledBase | None = None
) -> Program:
    """Compile for the shapes of ``arguments``: those of :class:`Program`.

    Args:
        known: the base of another sampler of the same network, for the same shapes of data sets.
    """
    params, rng_key, dataset, first = arguments
    named = dict.fromkeys(sampler.network.task.outputs, 0)
    drawn = (_any(ThetaDraws), named, _any(MoveInfo), _any(Densities))

    def compile_flow(base: Any) -> Callable[..., Drawn]:
        return lower(sampler.flow, (params, rng_key, dataset, first, base), drawn).compile()

    if known is not None:
        return Program(known, compile_flow(known.out))
    # Tracing stays in this thread, whose settings of JAX need not be those of another.
    base = lower(sampler.find_base, (params, dataset), (_any_base(sampler.network), _any(GaussianInfo)))
    with ThreadPoolExecutor(max_workers=1) as pool:
        find_base = pool.submit(base.compile)
        flow = compile_flow(base.out)
        return Program(CompiledBase(find_base.result(), base.out), flow)


def _any(kind: type[Any]) -> Any:
    """A value of a named tuple, for its structure."""
    return kind._make(range(len(kind._fields)))


def _any_base(network: Network) -> Any:
    kind, affine = network.config.model.base, _any(Affine)._replace(rivals=None, warp=None)
    if kind == "modes":
        return GaussianModes(affine, jnp.zeros(()), _any(Rivals))
    return affine._replace(warp=_any(Warp)) if kind == "warped" else affine
