"""A network bound to its task: how losses and draws follow from weights and a data set.

Shared by training (loss, held-out checks) and inference, so that both see one model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from icl_bayes.baselines.gaussians import GaussianInfo, mode_starts_of, modes_of, variational_of
from icl_bayes.flow import (
    DIVERGENCES,
    LIKELIHOOD_BASES,
    Affine,
    Example,
    GaussianModes,
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
    stratified_times,
    student_loss,
    trace_back,
    transport,
    value_and_log_det,
)
from icl_bayes.nets import ColumnFlow, InContextFlow, ModelShape, make_velocity, residual_score
from icl_bayes.precision import MATMUL_PRECISIONS, full_precision
from icl_bayes.tasks import Features, Task
from icl_bayes.tasks.token_view import TokenView
from icl_bayes.training.config import NetworkConfig
from icl_bayes.training.divergence import hellinger_loss
from icl_bayes.training.draws import UNKNOWN, Inverted, ThetaDraws
from icl_bayes.training.features import denoiser_of, features_of
from icl_bayes.training.mode_flow import draw_from_modes, log_prob_from_modes, noise_of_modes
from icl_bayes.training.targets import Targets, likelihood_base
from icl_bayes.types import Array, Dataset

Params = Any
Velocity = Callable[[Array, Array], Array]
NO_DENSITY = "Densities are of fixed steps; dopri5 has none. Use another solver, e.g. midpoint."


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
        draw = jax.jit(lambda *keys: nnx.state(build_model(self.config, self.task, *keys), nnx.Param))
        return draw(jax.random.key(seed), jax.random.key(seed + 1))

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

    def draw_noise(self, rng_keys: Array) -> Array:
        """One vector of base noise for each key ``(num,)``: what :meth:`draw` takes."""
        if self.config.model.base == "modes":
            return noise_of_modes(self.noise, self.task, rng_keys)
        return self.noise.draw(rng_keys, self.task.dim)

    def narrow_noise(self, rng_key: Array, num: int) -> Array:
        """The same for ``num`` draws, without a wide share."""
        if self.config.model.base == "modes":
            return noise_of_modes(Noise(), self.task, jax.random.split(rng_key, num))
        return jax.random.normal(rng_key, (num, self.task.dim))

    def log_density_fn(self, dataset: Dataset, affine: Affine) -> Callable[[Array], Array]:
        """What draws from a base aim at, up to a constant: the log joint, of one of several modes times its share."""
        if affine.rivals is None:
            return lambda theta: self.task.log_joint(theta, dataset)
        return lambda theta: self.task.log_joint(theta, dataset) + affine.log_share(theta)

    def velocity(self, model: Any, memory: Any, affine: Affine, dataset: Dataset, view: TokenView | None) -> Velocity:
        """The velocity field that a module has from what it made of a data set, of its features or its tokens."""
        if view is not None:
            return make_velocity(model, memory, self.path, affine, None, averaged=view.scores)
        denoiser = denoiser_of(self.config.model, self.task, dataset)
        sees_score = self.config.model.inputs == "theta_and_score"
        seen = self.log_density_fn(dataset, affine) if sees_score else None
        return make_velocity(model, memory, self.path, affine, seen, denoiser)

    def draw(self, params: Params, dataset: Dataset, noise: Array, solver: Solver) -> ThetaDraws:
        """Posterior draws of one prepared data set from base noise ``(num_draws, dim)``."""
        return self.draw_from(params, dataset, *self.find_base(params, dataset), noise, solver)

    @full_precision
    def find_base(self, params: Params, dataset: Dataset) -> tuple[Affine | GaussianModes, GaussianInfo]:
        """The base of one prepared data set to draw for, and its health: the part of :meth:`draw` before the flow."""
        kind, dim, num_steps = self.config.model.base, self.task.dim, self.config.flow.base_steps
        if kind == "modes":
            return modes_of(self.task, dataset, num_steps)
        if kind == "variational":
            return variational_of(self.task, dataset, num_variational_steps=num_steps)
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
        affine: Affine | GaussianModes,
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
        if with_log_prob and solver.method == "dopri5":
            raise ValueError(NO_DENSITY)
        if isinstance(affine, GaussianModes):
            return draw_from_modes(self, params, dataset, affine, info, noise, solver, with_log_prob=with_log_prob)
        if with_log_prob:
            flow = self.flow_map(params, dataset, affine, solver)
            x, log_det = jax.vmap(lambda z: value_and_log_det(flow, z))(noise)
            log_prob = jax.vmap(self.noise.log_prob)(noise) - log_det - affine.log_volume(x)
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
    def log_prob(
        self, params: Params, dataset: Dataset, affine: Affine | GaussianModes, thetas: Array, solver: Solver
    ) -> Inverted:
        """Log density at given points ``thetas (num, dim)``, of the law that :meth:`draw_from` draws from."""
        if isinstance(affine, GaussianModes):
            return log_prob_from_modes(self, params, dataset, affine, thetas, solver)
        velocity = self._velocity_of(params, dataset, affine)
        return jax.vmap(lambda theta: self.inverted(velocity, affine, theta, solver))(thetas)

    def inverted(self, velocity: Velocity, affine: Affine, theta: Array, solver: Solver) -> Inverted:
        """Log density at one point ``theta (dim,)``, ``()``.

        The noise that leads to it is found by solving the ODE backwards and by Newton's method.
        """

        def flow(z: Array) -> Array:
            return transport(self.path, velocity, z, solver).x

        u = affine.backward(theta)
        # As many steps come near the noise from where this solver got here; more follow the field.
        starts = [trace_back(self.path, velocity, u, solver, finer=factor) for factor in (1, 4)]
        usable = [jnp.where(jnp.all(jnp.isfinite(start)), start, u) for start in starts]
        tried = jax.vmap(lambda start: invert(flow, u, start))(jnp.stack(usable))
        found = jax.tree.map(lambda leaf: leaf[jnp.argmin(tried.residual)], tried)
        return Inverted(self.noise.log_prob(found.z) - found.log_det - affine.log_volume(u), found.residual)

    def velocity_maker(self, params: Params, dataset: Dataset) -> Callable[[Affine], Velocity]:
        """Velocity fields of a prepared data set, one for each base; its encoding is the same for all."""
        model = self.model(params)
        memory = model.encode(*self.features(dataset), for_many_draws=True)
        return lambda affine: self.velocity(model, memory, affine, dataset, None)

    def _velocity_of(self, params: Params, dataset: Dataset, affine: Affine) -> Velocity:
        """The velocity field of a prepared data set, whose encoding is kept for all draws."""
        view = self.tokens(dataset, affine)
        if view is None:
            return self.velocity_maker(params, dataset)(affine)
        model = self.model(params)
        return self.velocity(model, model.encode(*view[:-1], for_many_draws=True), affine, dataset, view)

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
        in_base = None if targets.scores is None else jax.lax.stop_gradient(jax.vmap(affine.score)(x1, targets.scores))
        pool, x1 = self._regressed_on(jax.random.fold_in(time_key, 1), Pool(x1, targets.log_weights, in_base))
        num_draws = len(x1)
        dataset = targets.dataset
        scores = jnp.zeros_like(x1)
        if config.flow.loss == "target_score":
            density = self.log_density_fn(dataset, affine)
            scores = jax.vmap(lambda u: residual_score(density, affine, u))(x1)
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
            velocity = self.velocity(decoder, memory, affine, dataset, view)
            return loss_fn(self.path, velocity, example, pool, spread)

        losses = jax.vmap(example_loss)(examples, jax.random.split(decoder_key, num_draws))
        loss = jnp.mean(losses)
        if config.flow.balanced:
            with jax.default_matmul_precision(MATMUL_PRECISIONS["float32"]):
                loss = balanced_loss(loss, self.log_density_fn(dataset, affine), affine, examples.x0)
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
        # Around a mode components have their order.
        if self.task.num_exchangeable and self.config.model.base != "modes":
            orders = jnp.asarray(self.task.orders)

            def in_all_orders(vectors: Array) -> Array:
                return jax.vmap(self.task.in_all_orders)(vectors).reshape(-1, self.task.dim)

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


def build_model(
    config: NetworkConfig, task: Task, weights_key: Array, dropout_key: Array
) -> InContextFlow | ColumnFlow:
    """A freshly initialized nnx module for a configuration."""
    rngs = nnx.Rngs(params=weights_key, dropout=dropout_key)
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
    if config.model.base == "modes":
        mode_starts_of(task)  # likewise
    no_moments = config.targets.metric == "prior" or config.targets.num_moves == 0
    if config.flow.loss == "stein_target" and config.model.base == "standard" and task.spread is None and no_moments:
        raise ValueError(
            f"flow.loss=stein_target needs moments of the posterior, which task {task.name!r} does not have by itself: "
            "set targets.metric=pilots or posterior, and targets.num_moves above 0."
        )
    abstract = nnx.eval_shape(lambda: build_model(config, task, jax.random.key(0), jax.random.key(1)))
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
        loss_fn = hellinger_loss if network.config.flow.loss in DIVERGENCES else Network.loss
        losses = jax.vmap(lambda key, one: loss_fn(network, params, key, one))(keys, targets)
    losses = jnp.where(targets.weight > 0, losses, 0.0)
    return jnp.sum(losses) / jnp.maximum(jnp.sum(targets.weight), 1.0)
