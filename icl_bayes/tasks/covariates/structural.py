"""Random structural causal models: tables read off the nodes of a small random network.

The idea is the MLP prior of TabPFN v1 (Hollmann, Mueller, Eggensperger, Hutter: "TabPFN: A
Transformer That Solves Small Tabular Classification Problems in a Second", ICLR 2023), built
anew for fixed shapes: one network of the largest size is evaluated for every data set, and
random masks make it smaller.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from icl_bayes.tasks.covariates import marginals
from icl_bayes.tasks.covariates.base import (
    Array,
    check_arguments,
    check_count,
    check_range,
    draw_parameters,
    row_normals,
    standardise,
)

# An activation is a * x + b * |x| + c * tanh(x); rows: identity, tanh, relu, leaky relu, abs.
# One formula costs less under vmap than a branch per activation, all of which would run.
_ACTIVATIONS = np.array(
    [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.5, 0.5, 0.0], [0.6, 0.4, 0.0], [0.0, 1.0, 0.0]], np.float32
)


@dataclass(frozen=True)
class StructuralCovariates:
    """Features are nodes of a random network with noise at every node.

    Per data set, at random: the number of causes, of layers and of nodes per layer; mean,
    scale and shape (normal, uniform, lognormal) of each cause; weights, of which a random
    share is cut; the activation of each layer; the scale of the noise, and within it that of
    each node. Features are picked without replacement from all causes and nodes; each is cut
    into levels with a probability drawn uniformly from ``(0, max_discrete_share)``.

    Tables with more columns than the largest network has room for get a wider network.

    Attributes:
        max_causes: largest number of root causes, at least 1 (smallest: 1).
        max_layers: largest number of layers, at least 1 (smallest: 1).
        min_width: smallest number of nodes per layer.
        max_width: largest number of nodes per layer.
        max_dropped: upper end of the share of weights set to zero, below 1.
        min_noise: smallest noise scale (nodes have values of order one).
        max_noise: largest noise scale; log-uniform between the two.
        max_discrete_share: upper end of the share of discrete features, in [0, 1].
        max_levels: largest number of levels of a discrete feature, at least 2.
        min_level_share: smallest probability of a level (for a normal feature).
    """

    name: ClassVar[str] = "structural"
    max_causes: int = 6
    max_layers: int = 3
    min_width: int = 4
    max_width: int = 12
    max_dropped: float = 0.6
    min_noise: float = 0.01
    max_noise: float = 0.5
    max_discrete_share: float = 0.4
    max_levels: int = 8
    min_level_share: float = 0.05

    def __post_init__(self) -> None:
        check_count(self.name, "max_causes", self.max_causes, 1)
        check_count(self.name, "max_layers", self.max_layers, 1)
        check_count(self.name, "min_width", self.min_width, 1)
        check_count(self.name, "max_width", self.max_width, self.min_width)
        check_range(self.name, "max_dropped", self.max_dropped, 0.0, 0.95)
        check_range(self.name, "min_noise", self.min_noise, 1e-4)
        check_range(self.name, "max_noise", self.max_noise, self.min_noise)
        check_range(self.name, "max_discrete_share", self.max_discrete_share, 0.0, 1.0)
        check_count(self.name, "max_levels", self.max_levels, 2)
        check_range(self.name, "min_level_share", self.min_level_share, 0.0, 1.0 / self.max_levels)

    def sample(self, rng_key: Array, num_columns: int, row_mask: Array) -> Array:
        """One table ``(n, p)``; see :class:`~icl_bayes.tasks.covariates.CovariatePrior`."""
        num_rows = check_arguments(num_columns, row_mask)
        max_width = max(self.max_width, num_columns)
        num_nodes = self.max_layers * max_width
        keys = jax.random.split(rng_key, self.max_causes + num_nodes + num_columns + 1)
        weights_shape = (self.max_layers, max_width, max(self.max_causes, max_width))
        uniforms, normals = draw_parameters(
            keys[-1],
            uniforms=[
                (3,),
                (self.max_causes, 1),
                weights_shape,
                (3,),
                (self.max_layers,),
                (self.max_causes + num_nodes,),
                (4, num_columns),
                (2, num_columns, self.max_levels),
            ],
            normals=[(2, self.max_causes, 1), weights_shape, (2, self.max_layers, max_width, 1)],
        )
        sizes, kinds, cuts, network, activations, lottery, feature_draws, level_draws = uniforms
        cause_draws, weights, node_draws = normals
        noise = row_normals(keys[:-1], num_rows)
        cause_noise, node_noise, spare = jnp.split(noise, (self.max_causes, self.max_causes + num_nodes))
        node_noise = node_noise.reshape(self.max_layers, max_width, num_rows)

        num_causes, num_layers, width = self._sizes(sizes, num_columns)
        causes = _causes(cause_noise, kinds, cause_draws)
        dropped = self.max_dropped * network[0]
        weights = jnp.where(cuts >= dropped, weights, 0.0) * (_gain(network[1]) / jnp.sqrt(1.0 - dropped))
        noise_scale = self.min_noise * (self.max_noise / self.min_noise) ** network[2]
        node_noise = node_noise * noise_scale * (0.2 + 2.0 * jnp.abs(node_draws[0]))
        layers = _propagate(causes, num_causes, width, weights, 0.5 * node_draws[1], activations, node_noise)

        used = (jnp.arange(self.max_layers)[:, None] < num_layers) & (jnp.arange(max_width)[None, :] < width)
        used = jnp.concatenate([jnp.arange(self.max_causes) < num_causes, used.reshape(-1)])
        picked = jax.lax.top_k(jnp.where(used, lottery, -1.0), num_columns)[1]
        features = standardise(jnp.concatenate([causes, *layers])[picked], row_mask, spare).T
        return standardise(self._discretise(feature_draws, level_draws, features, row_mask), row_mask, spare)

    def _sizes(self, draws: Array, num_columns: int) -> tuple[Array, Array, Array]:
        """Number of causes, of layers, and of nodes per layer, with room for all columns."""
        low = jnp.asarray([1, 1, self.min_width], jnp.float32)
        high = jnp.asarray([self.max_causes, self.max_layers, self.max_width], jnp.float32)
        sizes = jnp.minimum(low + jnp.floor(draws * (high - low + 1.0)), high).astype(jnp.int32)
        return sizes[0], sizes[1], jnp.maximum(sizes[2], -(-num_columns // sizes[1]))

    def _discretise(self, draws: Array, level_draws: Array, features: Array, row_mask: Array) -> Array:
        """Standardised features ``(p, n)``, a random share of them cut into levels.

        ``draws`` ``(4, p)`` and ``level_draws`` ``(2, p, max_levels)`` are uniform draws.
        """
        chosen, count, nominal, share = draws
        # Squaring favours few levels.
        num_levels = 2 + jnp.floor((self.max_levels - 1) * count * count).astype(jnp.int32)
        num_levels = jnp.minimum(num_levels, self.max_levels)
        share_draws, code_draws = level_draws
        cuts, codes = marginals.levels_from_draws(
            share_draws, code_draws, num_levels, nominal < 0.5, self.min_level_share
        )
        low, high = marginals.inner_range(features, row_mask)
        levels = marginals.to_levels(features, num_levels, cuts, codes, low, high)
        return jnp.where((chosen < self.max_discrete_share * share[0])[:, None], levels, features)


def _gain(draw: Array) -> Array:
    """Scale of the weights, log-uniform from one half (nearly linear layers) to two (saturating ones)."""
    return 0.5 * 4.0**draw


def _causes(scores: Array, kinds: Array, draws: Array) -> Array:
    """Root causes ``(max_causes, n)`` of random shape, location and scale."""
    uniform = 3.4641016 * (marginals.bounded(scores, jnp.ones_like(kinds)) - 0.5)
    skewed = jnp.exp(0.8 * scores) - 1.0
    values = jnp.where(kinds < 0.5, scores, jnp.where(kinds < 0.75, uniform, skewed))
    return draws[0] + (0.3 + jnp.abs(draws[1])) * values


def _propagate(
    causes: Array, num_causes: Array, width: Array, weights: Array, bias: Array, activations: Array, noise: Array
) -> list[Array]:
    """Values of all nodes, one ``(max_width, n)`` array per layer.

    Inputs beyond ``num_causes`` and ``width`` have no weight; ``activations`` are uniform
    draws, one per layer.
    """
    kinds = jnp.minimum(jnp.floor(activations * len(_ACTIVATIONS)), len(_ACTIVATIONS) - 1).astype(jnp.int32)
    coefficients = jnp.asarray(_ACTIVATIONS)[kinds]
    layers = []
    values, num_inputs = causes, num_causes
    for index in range(weights.shape[0]):
        used = (jnp.arange(values.shape[0]) < num_inputs)[None, :]
        matrix = jnp.where(used, weights[index, :, : values.shape[0]], 0.0)
        matrix = matrix * jax.lax.rsqrt(num_inputs.astype(jnp.float32))
        inputs = jnp.matmul(matrix, values, precision=jax.lax.Precision.HIGHEST) + bias[index]
        linear, folded, bent = coefficients[index]
        values = linear * inputs + folded * jnp.abs(inputs) + bent * jnp.tanh(inputs) + noise[index]
        layers.append(values)
        num_inputs = width
    return layers
