"""One gradient step as a pure function, and several of them inside one compiled call."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from icl_bayes.training.config import TrainingConfig
from icl_bayes.training.network import Network, batch_loss
from icl_bayes.training.targets import Targets, make_targets
from icl_bayes.types import Array

ROWS_AT_ONCE = 2**15
"""Of the data sets that are simulated together."""


class TrainState(NamedTuple):
    """Everything that a resumed run needs, besides its configuration."""

    step: Array
    params: Any
    ema: Any
    opt_state: Any


class StepInfo(NamedTuple):
    """Per-step diagnostics, each ``()`` (``(steps,)`` after a chunk)."""

    loss: Array
    gradient_norm: Array
    acceptance: Array
    kept: Array


def make_schedule(config: TrainingConfig) -> optax.Schedule:
    """A one-cycle cosine of the learning rate that completes."""
    return optax.cosine_onecycle_schedule(
        config.num_steps,
        config.learning_rate,
        config.warmup_fraction,
        config.initial_divisor,
        config.final_divisor,
    )


def make_optimizer(config: TrainingConfig, schedule: optax.Schedule) -> optax.GradientTransformation:
    """Adam with L2 and clipping."""
    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm), optax.add_decayed_weights(config.l2), optax.adam(schedule)
    )


def init_state(network: Network, config: TrainingConfig) -> TrainState:
    """Fresh weights, their average, and optimizer state."""
    params = network.init(config.seed)
    average = jax.tree.map(jnp.copy, params)  # its own buffers: the step donates both
    return TrainState(
        jnp.zeros((), jnp.int32), params, average, make_optimizer(config, make_schedule(config)).init(params)
    )


def data_mesh() -> Mesh:
    """All devices of all hosts on one axis, over which the batch is split."""
    return Mesh(np.asarray(jax.devices()), ("data",))


def bucket_of(config: TrainingConfig, chunk: int) -> int:
    """Padded number of rows of a chunk of steps: a pure function of ``(seed, chunk)``."""
    if config.fixed_rows:
        return config.fixed_rows
    generator = np.random.default_rng([config.seed, chunk])
    weights = np.asarray(config.bucket_weights, float)
    return int(generator.choice(np.asarray(config.row_buckets), p=weights / weights.sum()))


def batch_size_of(config: TrainingConfig, padded_rows: int, num_devices: int) -> int:
    """Data sets per step, so that rows per step stay about constant; a multiple of the devices."""
    smallest = config.fixed_rows or min(config.row_buckets)
    size = max(8, config.batch_size * smallest // padded_rows)
    return -(-size // num_devices) * num_devices


def make_batch_fn(network: Network, config: TrainingConfig, mesh: Mesh) -> Callable[[Array, int], Targets]:
    """``(rng_keys, padded_rows) -> Targets``, a data set for every key, split over devices."""
    targets_fn = make_targets(
        network.task,
        network.config.targets,
        base=network.config.model.base,
        with_scores=network.config.flow.loss == "stein_target",
        features=network.features,
    )
    sharding = NamedSharding(mesh, PartitionSpec("data"))

    def one(rng_key: Array, padded_rows: int) -> Targets:
        rows_key, targets_key = jax.random.split(rng_key)
        if config.fixed_rows:
            num_rows = jnp.asarray(config.fixed_rows)
        else:
            low, high = np.log(config.min_rows), np.log(padded_rows + 1)
            num_rows = jnp.exp(jax.random.uniform(rows_key, minval=low, maxval=high)).astype(jnp.int32)
            num_rows = jnp.clip(num_rows, config.min_rows, padded_rows)
        return targets_fn(targets_key, num_rows, padded_rows)

    def batch(rng_keys: Array, padded_rows: int) -> Targets:
        keys = jax.lax.with_sharding_constraint(rng_keys, sharding)
        return jax.vmap(lambda key: one(key, padded_rows))(keys)

    return batch


def make_pool_fn(network: Network, config: TrainingConfig, mesh: Mesh, padded_rows: int) -> Callable[[Array], Targets]:
    """``rng_key -> Targets`` of all data sets that a call simulates, ``steps_per_call / passes`` batches.

    Batches are simulated together as far as they have no more than `ROWS_AT_ONCE` rows in all, and one group after
    the other beyond: how many data sets a call may hold is not a matter of the memory that their simulation takes.
    """
    batch_fn = make_batch_fn(network, config, mesh)
    batch_size = batch_size_of(config, padded_rows, mesh.devices.size)
    rows_of_batch = batch_size * padded_rows
    num_batches = config.steps_per_call // config.passes
    num_groups = next(
        count
        for count in range(1, num_batches + 1)
        if num_batches % count == 0 and num_batches // count * rows_of_batch <= max(ROWS_AT_ONCE, rows_of_batch)
    )

    def pool(rng_key: Array) -> Targets:
        keys = jax.random.split(rng_key, num_batches * batch_size)
        if num_groups == 1:
            return batch_fn(keys, padded_rows)
        groups = jax.lax.map(lambda keys: batch_fn(keys, padded_rows), keys.reshape(num_groups, -1))
        return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), groups)

    return pool


def visiting_order(rng_key: Array, pool_size: int, batch_size: int, passes: int) -> Array:
    """Which data sets of a pool each step sees, ``(passes * pool_size / batch_size, batch_size)``.

    Every pass goes through the whole pool in an order of its own.
    """
    keys = jax.random.split(rng_key, passes)
    return jax.vmap(lambda key: jax.random.permutation(key, pool_size))(keys).reshape(-1, batch_size)


@dataclasses.dataclass(frozen=True)
class TrainChunk:
    """``state -> (state, info)`` over ``steps_per_call`` steps, compiled as one program.

    What only says which numbers a step uses, its random key and learning rate, is an input of the program: runs that
    differ in their seed or schedule share it.

    Attributes:
        program: ``(state, rng_key, learning_rates) -> (state, info)``; a jitted function, or compiled.
        inputs: ``step -> (rng_key, learning_rates)`` of the call that begins with this step.
    """

    program: Any
    inputs: Callable[[Array], tuple[Array, Array]]

    def compile(self, state: TrainState) -> TrainChunk:
        """The same, compiled once and for all: a jitted function would do it anew for a state from the call before."""
        return dataclasses.replace(self, program=self.program.lower(state, *self.inputs(state.step)).compile())

    def __call__(self, state: TrainState) -> tuple[TrainState, StepInfo]:
        """Several steps; the buffers of ``state`` are given away."""
        return self.program(state, *self.inputs(state.step))


def make_train_chunk(network: Network, config: TrainingConfig, mesh: Mesh, padded_rows: int) -> TrainChunk:
    """The steps of one call.

    The program simulates a pool of data sets and passes over it ``passes`` times, in a new order
    and with fresh times and noise each time, so that simulation costs little beside gradients.
    """
    schedule = make_schedule(config)
    pool_fn = make_pool_fn(network, config, mesh, padded_rows)
    batch_size = batch_size_of(config, padded_rows, mesh.devices.size)
    pool_size = batch_size * config.steps_per_call // config.passes
    by_data, replicated = NamedSharding(mesh, PartitionSpec("data")), NamedSharding(mesh, PartitionSpec())

    def inputs(step: Array) -> tuple[Array, Array]:
        rng_key = jax.random.fold_in(jax.random.key(config.seed), step)
        steps = step + jnp.arange(config.steps_per_call)
        return rng_key, jnp.asarray(jax.vmap(schedule)(steps))

    def train_step(state: TrainState, step: tuple[Array, Array, Targets]) -> tuple[TrainState, StepInfo]:
        loss_key, learning_rate, targets = step
        loss, gradient = jax.value_and_grad(lambda params: batch_loss(network, params, loss_key, targets))(state.params)
        norm = optax.tree.norm(gradient)
        # One bad batch must not destroy a long run: a step without a finite gradient is skipped.
        usable = jnp.isfinite(norm)
        gradient = jax.tree.map(lambda g: jnp.where(usable, g, 0.0), gradient)
        optimizer = make_optimizer(config, lambda _: learning_rate)
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        decay = jnp.minimum(config.ema_decay, (1.0 + state.step) / (10.0 + state.step))
        ema = jax.tree.map(lambda average, new: decay * average + (1.0 - decay) * new, state.ema, params)
        info = StepInfo(loss, norm, jnp.mean(targets.acceptance), jnp.mean(targets.weight))
        return TrainState(state.step + 1, params, ema, opt_state), info

    def program(state: TrainState, rng_key: Array, learning_rates: Array) -> tuple[TrainState, StepInfo]:
        data_key, order_key, loss_key = jax.random.split(rng_key, 3)
        pool = pool_fn(data_key)
        order = visiting_order(order_key, pool_size, batch_size, config.passes)

        def one(state: TrainState, step: tuple[Array, Array, Array]) -> tuple[TrainState, StepInfo]:
            loss_key, learning_rate, visited = step
            targets = jax.tree.map(lambda leaf: leaf[visited], pool)
            targets = jax.lax.with_sharding_constraint(targets, by_data)
            return train_step(state, (loss_key, learning_rate, targets))

        loss_keys = jax.random.split(loss_key, config.steps_per_call)
        return jax.lax.scan(one, state, (loss_keys, learning_rates, order))

    steps = jax.jit(program, in_shardings=replicated, out_shardings=replicated, donate_argnums=0)
    return TrainChunk(steps, jax.jit(inputs, out_shardings=replicated))
