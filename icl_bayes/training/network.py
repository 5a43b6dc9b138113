"""A network bound to its task: how losses and draws follow from weights and a data set.

Shared by training (loss, held-out checks) and inference, so that both see one model.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from icl_bayes.baselines.gaussians import GaussianInfo
from icl_bayes.flow import (
    LIKELIHOOD_BASES,
    Affine,
    Example,
    Noise,
    Path,
    Pool,
    Solver,
    Spread,
    balanced_loss,
    identity_affine,
    invert,
    make_loss,
    make_path,
    solve,
    stratified_times,
    student_loss,
    transport,
    value_and_log_det,
)
from icl_bayes.nets import ColumnFlow, InContextFlow, ModelShape, make_velocity, residual_score
from icl_bayes.precision import MATMUL_PRECISIONS, full_precision
from icl_bayes.tasks import Features, Task
from icl_bayes.tasks.token_view import TokenView
from icl_bayes.training.config import NetworkConfig
from icl_bayes.training.features import denoiser_of, features_of
from icl_bayes.training.targets import Targets, likelihood_base
from icl_bayes.types import AnyArray, Array, Dataset

Params = Any
Velocity = Callable[[Array, Array], Array]
NO_DENSITY = "Densities are of fixed steps; dopri5 has none. Use another solver, e.g. midpoint."


UNKNOWN = np.full(1, np.nan, np.float32)
"""In the place of densities that are not wanted: one number, as ``jax.lax.map`` takes no empty arrays in batches."""


class ThetaDraws(NamedTuple):
    """Draws of one data set.

    Attributes:
        theta: ``(num_draws, dim)`` unconstrained.
        is_finite: ``()`` whether base and every draw are finite.
        decrement: ``()`` nats that a further step of the base's search promised (zero if it has none).
        rival: ``()`` log mass of a second mode relative to the one the base sits in (minus infinity if
            none was met).
        log_prob: ``(num_draws,)`` log density of ``theta``, of the law they are drawn from; :data:`UNKNOWN` if not
            wanted.
    """

    theta: Array
    is_finite: Array
    decrement: Array
    rival: Array
    log_prob: AnyArray


class Inverted(NamedTuple):
    """Densities at given points.

    Attributes:
        log_prob: ``(num,)``.
        residual: ``(num,)``, how far from a point its noise leads, in base coordinates; more than
            :data:`icl_bayes.flow.MAX_RESIDUAL` where no noise was found.
    """

    log_prob: Array
    residual: Array


@dataclass(frozen=True, eq=False)
class Network:
    """Architecture, task and path of a network, without its weights.

    Attributes:
        template: names, shapes and types of the weights.
        graph: the module without weights, and the state it has beside them.
    """

    config: NetworkConfig
    task: Task
    path: Path
    template: Params
    graph: tuple[Any, Any]

    def init(self, seed: int) -> Params:
        """Fresh weights; one program draws them all, as an accelerator would compile each draw by itself."""
        return jax.jit(lambda: nnx.state(build_model(self.config, self.task, seed), nnx.Param))()

    def model(self, params: Params, dropout_key: Array | None = None) -> Any:
        """The nnx module with the given weights; dropout is active only with a key."""
        rest = jax.tree.map(lambda leaf: leaf, self.graph[1])
        model = nnx.merge(self.graph[0], params, rest)
        if dropout_key is None or self.config.model.dropout == 0.0:
            model.eval()
            return model
        model.train()
        nnx.reseed(model, dropout=dropout_key)
        return model

    @full_precision
    def features(self, dataset: Dataset) -> Features:
        """What the encoder reads of a prepared data set, unless it reads tokens."""
        return features_of(self.config.model, self.task, dataset)

    @full_precision
    def tokens(self, dataset: Dataset, affine: Affine) -> TokenView | None:
        """What it reads instead, if it does: the data set as seen from a base."""
        if self.config.model.layout != "column" or self.task.tokens is None:
            return None
        view = self.task.tokens(dataset, affine.shift, affine.scale)
        return jax.lax.stop_gradient(view._replace(scores=None))._replace(scores=view.scores)

    @property
    def needs_log_joint(self) -> bool:
        """Whether inference evaluates the likelihood (base or score inputs)."""
        return self.config.model.base in LIKELIHOOD_BASES or self.config.model.inputs != "theta"

    @property
    def noise(self) -> Noise:
        """What draws start from at inference."""
        return Noise(self.config.flow.wide_share)

    def log_density_fn(self, dataset: Dataset) -> Callable[[Array], Array] | None:
        if self.config.model.inputs != "theta_and_score":
            return None
        return lambda theta: self.task.log_joint(theta, dataset)

    def _velocity(self, model: Any, memory: Any, affine: Affine, dataset: Dataset, view: TokenView | None) -> Velocity:
        if view is not None:
            return make_velocity(model, memory, self.path, affine, None, averaged=view.scores)
        denoiser = denoiser_of(self.config.model, self.task, dataset)
        return make_velocity(model, memory, self.path, affine, self.log_density_fn(dataset), denoiser)

    def draw(self, params: Params, dataset: Dataset, noise: Array, solver: Solver) -> ThetaDraws:
        """Posterior draws of one prepared data set from base noise ``(num_draws, dim)``."""
        return self.draw_from(params, dataset, *self.find_base(params, dataset), noise, solver)

    @full_precision
    def find_base(self, params: Params, dataset: Dataset) -> tuple[Affine, GaussianInfo]:
        """The base of one prepared data set to draw for, and its health: the part of :meth:`draw` before the flow."""
        kind, dim = self.config.model.base, self.task.dim
        if kind in LIKELIHOOD_BASES:
            return likelihood_base(kind, self.task, dataset)
        affine, is_finite = identity_affine(dim), jnp.asarray(True)
        if kind == "gaussian":
            memory = self.model(params).encode(*self.features(dataset))
            affine, is_finite = factor_affine(memory.shift[-1], memory.scale[-1]), jnp.all(jnp.isfinite(memory.scale))
        return affine, GaussianInfo(jnp.zeros(()), is_finite, jnp.asarray(-jnp.inf))

    @full_precision
    def draw_from(
        self,
        params: Params,
        dataset: Dataset,
        affine: Affine,
        info: GaussianInfo,
        noise: Array,
        solver: Solver,
        *,
        with_log_prob: bool = False,
    ) -> ThetaDraws:
        """The rest of :meth:`draw`, from what :meth:`find_base` returned.

        Args:
            with_log_prob: also the density of the draws, which costs an evaluation per dimension for each of theirs.
        """
        if with_log_prob:
            flow = self.flow_map(params, dataset, affine, solver)
            x, log_det = jax.vmap(lambda z: value_and_log_det(flow, z))(noise)
            log_prob = jax.vmap(self.noise.log_prob)(noise) - log_det - affine.log_det
            is_finite = jnp.all(jnp.isfinite(x)) & jnp.all(jnp.isfinite(log_prob))
        else:
            solution = transport(self.path, self._velocity_of(params, dataset, affine), noise, solver)
            x, is_finite, log_prob = solution.x, solution.is_finite, UNKNOWN
        return ThetaDraws(affine.forward(x), info.is_finite & is_finite, info.decrement, info.rival, log_prob)

    def flow_map(self, params: Params, dataset: Dataset, affine: Affine, solver: Solver) -> Callable[[Array], Array]:
        """The solver's steps as one map from base noise ``(dim,)`` to a draw in base coordinates ``(dim,)``.

        Raises:
            ValueError: for the adaptive solver, whose steps depend on all draws.
        """
        if solver.method == "dopri5":
            raise ValueError(NO_DENSITY)
        velocity = self._velocity_of(params, dataset, affine)

        return lambda z: transport(self.path, velocity, z, solver).x

    @full_precision
    def log_prob(self, params: Params, dataset: Dataset, affine: Affine, thetas: Array, solver: Solver) -> Inverted:
        """Log density at given points ``thetas (num, dim)``, of the law that :meth:`draw_from` draws from.

        The noise that leads to a point is found by solving the ODE backwards and by Newton's method.
        """
        flow = self.flow_map(params, dataset, affine, solver)
        velocity, end, exponent = self._velocity_of(params, dataset, affine), self.path.final_time, solver.exponent

        def backwards(s: Array, x: Array) -> Array:
            """In the solver's own time, from its end, where steps are the shortest, to its start."""
            left = s / end
            return -exponent * left ** (exponent - 1.0) * velocity(end * (1.0 - left**exponent), x)

        def one(theta: Array) -> Inverted:
            u = affine.backward(theta)
            # As many steps come near the noise from where this solver got here; more follow the field.
            starts = [
                solve(backwards, u, Solver("midpoint", factor * solver.num_steps), final_time=end).x
                for factor in (1, 4)
            ]
            usable = [jnp.where(jnp.all(jnp.isfinite(start)), start, u) for start in starts]
            tried = jax.vmap(lambda start: invert(flow, u, start))(jnp.stack(usable))
            found = jax.tree.map(lambda leaf: leaf[jnp.argmin(tried.residual)], tried)
            return Inverted(self.noise.log_prob(found.z) - found.log_det - affine.log_det, found.residual)

        return jax.vmap(one)(thetas)

    def _velocity_of(self, params: Params, dataset: Dataset, affine: Affine) -> Velocity:
        """The velocity field of a prepared data set, whose encoding is kept for all draws."""
        model, view = self.model(params), self.tokens(dataset, affine)
        read = self.features(dataset) if view is None else view[:-1]
        return self._velocity(model, model.encode(*read, for_many_draws=True), affine, dataset, view)

    def loss(self, params: Params, rng_key: Array, targets: Targets) -> Array:
        """Mean loss over the draws of one data set, ``()``."""
        time_key, noise_key, encoder_key, decoder_key = jax.random.split(rng_key, 4)
        model, view = self.model(params, encoder_key), self.tokens(targets.dataset, targets.affine)
        memory = model.encode(*(targets.features if view is None else view[:-1]))
        dim, config = self.task.dim, self.config
        extra = jnp.zeros(())
        if config.model.base == "gaussian":
            affines = jax.vmap(factor_affine)(memory.shift, memory.scale)
            standardized = jax.vmap(lambda one: one.backward(targets.theta))(affines)
            # Every round of the head is fitted; the flow then sees fixed coordinates.
            extra = (student_loss(standardized) + jnp.mean(affines.log_det)) / dim
            affine = jax.lax.stop_gradient(jax.tree.map(lambda leaf: leaf[-1], affines))
        else:
            affine = targets.affine if config.model.base in LIKELIHOOD_BASES else identity_affine(dim)
        x1 = jax.lax.stop_gradient(jax.vmap(affine.backward)(targets.theta))
        in_base = None if targets.scores is None else jax.lax.stop_gradient(targets.scores @ affine.scale)
        pool, x1 = self._regressed_on(jax.random.fold_in(time_key, 1), Pool(x1, targets.log_weights, in_base))
        num_draws = len(x1)
        dataset = targets.dataset
        scores = jnp.zeros_like(x1)
        if config.flow.loss == "target_score":
            scores = jax.vmap(lambda u: residual_score(lambda v: self.task.log_joint(v, dataset), affine, u))(x1)
        examples = Example(
            stratified_times(time_key, num_draws, self.path.final_time),
            jax.random.normal(noise_key, (num_draws, dim)),
            x1,
            jax.lax.stop_gradient(scores),
        )
        loss_fn, spread = make_loss(config.flow.loss), None
        if config.flow.loss == "stein_target":
            spread = self._spread(targets)

        def example_loss(example: Example, dropout_key: Array) -> Array:
            # The module is put together inside this vmap: its dropout counters can't change from within another.
            decoder = self.model(params, dropout_key)
            velocity = self._velocity(decoder, memory, affine, dataset, view)
            return loss_fn(self.path, velocity, example, pool, spread)

        losses = jax.vmap(example_loss)(examples, jax.random.split(decoder_key, num_draws))
        loss = jnp.mean(losses)
        if config.flow.balanced:
            with jax.default_matmul_precision(MATMUL_PRECISIONS["float32"]):
                loss = balanced_loss(loss, lambda theta: self.task.log_joint(theta, dataset), affine, examples.x0)
        return loss + extra

    def _spread(self, targets: Targets) -> Spread:
        """Covariance of a draw given its noisy view, in base coordinates.

        Of a base that resembles the posterior it is known. With a standard one it is as the task knows it, else it
        comes from the moments of the metric.
        """
        if self.config.model.base != "standard":
            return lambda x, alpha, sigma, vector: sigma**2 / (alpha**2 + sigma**2) * vector
        known = self.task.spread
        if known is not None:
            return lambda x, alpha, sigma, vector: known(x, alpha, sigma, targets.dataset, vector)
        variances, vectors = jnp.linalg.eigh(targets.affine.scale @ targets.affine.scale.T)

        def spread(x: Array, alpha: Array, sigma: Array, vector: Array) -> Array:
            return vectors @ (vectors.T @ vector / (1.0 / variances + (alpha / sigma) ** 2))

        return spread

    def _regressed_on(self, rng_key: Array, drawn: Pool) -> tuple[Pool, Array]:
        """The pool of one data set, and the draws ``(num_examples, dim)`` that examples are made of.

        Exchangeable components are put into every order in the pool, and into a random one in every example.
        """
        which_key, order_key = jax.random.split(rng_key)
        pool, chosen, config = drawn, drawn.draws, self.config.targets
        if config.shrunk_share or config.num_examples:
            num_examples = config.num_examples or len(chosen)
            chosen = chosen[jax.random.categorical(which_key, drawn.log_weights, shape=(num_examples,))]
        num = self.task.num_exchangeable
        if num:
            orders = jnp.asarray(list(itertools.permutations(range(num))))

            def in_all_orders(vectors: Array) -> Array:
                relabelled = jax.vmap(jax.vmap(self.task.relabel, (None, 0)), (0, None))(vectors, orders)
                return relabelled.reshape(-1, self.task.dim)

            # The log joint does not know components apart: the score of a relabelled draw is its score, relabelled.
            scores = None if drawn.scores is None else in_all_orders(drawn.scores)
            pool = Pool(in_all_orders(drawn.draws), jnp.repeat(drawn.log_weights, len(orders)), scores)
            random_orders = orders[jax.random.randint(order_key, (len(chosen),), 0, len(orders))]
            chosen = jax.vmap(self.task.relabel)(chosen, random_orders)
        return pool, chosen


def factor_affine(shift: Array, scale: Array) -> Affine:
    """Affine map with an upper triangular scale ``(dim, dim)``, its inverse computed once."""
    inverse = jax.scipy.linalg.solve_triangular(scale, jnp.eye(scale.shape[0]), lower=False)
    return Affine(shift, scale, inverse, jnp.sum(jnp.log(jnp.abs(jnp.diagonal(scale)))))


def build_model(config: NetworkConfig, task: Task, seed: int) -> InContextFlow | ColumnFlow:
    """A freshly initialized nnx module for a configuration."""
    rngs = nnx.Rngs(params=seed, dropout=seed + 1)
    if config.model.layout == "column":
        tokens = task.tokens
        if tokens is None:
            raise ValueError(f"model.layout=column is for regressions; task {task.name!r} has no columns as tokens.")
        zero, eye = jnp.zeros(task.dim), jnp.eye(task.dim)
        view = jax.eval_shape(lambda: tokens(task.example, zero, eye)._replace(scores=None))
        return ColumnFlow(config.model, view.cells.shape[-1], view.context.shape[-1], rngs=rngs)
    features = jax.eval_shape(lambda: features_of(config.model, task, task.example))
    components = tuple(map(tuple, task.components.tolist())) if task.num_exchangeable else ()
    shape = ModelShape(task.dim, features.rows.shape[-1], features.context.shape[-1], components)
    return InContextFlow(config.model, shape, rngs=rngs)


def build_network(config: NetworkConfig, task: Task | None = None) -> Network:
    """Task, path and architecture of a configuration; no weight is drawn.

    Args:
        task: what ``config.task`` builds, where it is at hand.
    """
    task = task or config.task.build()
    denoiser_of(config.model, task, task.example)  # raises where there is none
    no_moments = config.targets.metric == "prior" or config.targets.num_moves == 0
    if config.flow.loss == "stein_target" and config.model.base == "standard" and task.spread is None and no_moments:
        raise ValueError(
            f"flow.loss=stein_target needs moments of the posterior, which task {task.name!r} does not have by itself: "
            "set targets.metric=pilots or posterior, and targets.num_moves above 0."
        )
    abstract = nnx.eval_shape(lambda: build_model(config, task, 0))
    graph, template, dropout = nnx.split(abstract, nnx.Param, nnx.RngState)
    return Network(config, task, make_path(config.flow.path), template, (graph, jax.tree.map(_unused, dropout)))


def _unused(leaf: jax.ShapeDtypeStruct) -> Array:
    """Keys and counters of dropout, in whose place training puts its own."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.random.key(0)
    return jnp.zeros(leaf.shape, leaf.dtype)


def batch_loss(network: Network, params: Params, rng_key: Array, targets: Targets) -> Array:
    """Weighted mean loss over a batch of data sets, ``()``."""
    keys = jax.random.split(rng_key, targets.weight.shape[0])
    with jax.default_matmul_precision(MATMUL_PRECISIONS[network.config.training.matmul_precision]):
        losses = jax.vmap(lambda key, one: network.loss(params, key, one))(keys, targets)
    losses = jnp.where(targets.weight > 0, losses, 0.0)
    return jnp.sum(losses) / jnp.maximum(jnp.sum(targets.weight), 1.0)
