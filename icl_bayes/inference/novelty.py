"""How unusual a data set is for a network: out-of-distribution score against the data sets it was trained on.

The data set is compared with simulated ones of the same number of rows, in summary statistics of its features and in
what the encoder makes of it. A high score is no error: where the likelihood is known a certificate checks the draws
themselves. It says that the network was never asked for anything like this, and that the model may be wrong for the
data.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from icl_bayes.compiler import QUICK_TO_COMPILE
from icl_bayes.training.training_range import summary_statistics
from icl_bayes.types import AnyArray, Array, Dataset

if TYPE_CHECKING:
    from icl_bayes.inference.network import AmortizedPosterior

NUM_SIMULATED = 256
NUM_DIRECTIONS = 16
"""Principal directions of the pooled memory that take part."""
MIN_SPREAD = 0.3
"""Least standard deviation of a statistic: columns that are standardized in training, not at all in use, do no harm."""
_RIDGE = 0.1
_SEED = 20


@dataclass(frozen=True)
class Familiar:
    """What data sets of the training look like, for one number of rows.

    Attributes:
        center, spread: ``(k,)``, by which features are standardized before they are compressed.
        directions: ``(k, d)``, onto which they are then projected.
        mean, precision: ``(d,)`` and ``(d, d)``, of the projections.
        distances: ``(num,)``, sorted, of the simulated data sets, each without a say in what it is measured by.
    """

    center: np.ndarray
    spread: np.ndarray
    directions: np.ndarray
    mean: np.ndarray
    precision: np.ndarray
    distances: np.ndarray

    @classmethod
    def of(cls, features: np.ndarray, num_statistics: int) -> Familiar:
        """From features of simulated data sets ``(num, k)``, statistics first, pooled memory next."""
        center = np.median(features, axis=0)
        low, high = np.quantile(features, (0.1, 0.9), axis=0)
        spread = (high - low) / 2.56  # a standard deviation, if they were normal
        spread[:num_statistics] = np.maximum(spread[:num_statistics], MIN_SPREAD)
        spread = np.maximum(spread, 1e-6 * (1.0 + np.abs(center)))
        compressed = np.arcsinh((features - center) / spread)
        memory = compressed[:, num_statistics:]
        _, _, axes = np.linalg.svd(memory - memory.mean(axis=0), full_matrices=False)
        directions = np.zeros((features.shape[1], num_statistics + min(NUM_DIRECTIONS, len(axes))))
        directions[:num_statistics, :num_statistics] = np.eye(num_statistics)
        directions[num_statistics:, num_statistics:] = axes[:NUM_DIRECTIONS].T
        projected = compressed @ directions
        mean, covariance = projected.mean(axis=0), np.cov(projected.T)
        ridge = _RIDGE * np.diag(np.maximum(np.diag(covariance), 1.0))
        precision = np.linalg.inv((1.0 - _RIDGE) * covariance + ridge)
        distances = np.einsum("ni,ij,nj->n", projected - mean, precision, projected - mean)
        # Without the data set's own part in mean and covariance (exact but for the ridge).
        num = len(features)
        share = np.minimum(num * distances / (num - 1.0) ** 2, 0.9)
        distances = distances * (num - 2.0) * num**2 / (num - 1.0) ** 3 / (1.0 - share)
        return cls(center, spread, directions, mean, precision, np.sort(distances))

    def score(self, features: np.ndarray) -> float:
        """Share of simulated data sets that are less unusual than one with these features ``(k,)``."""
        projected = np.arcsinh((features - self.center) / self.spread) @ self.directions - self.mean
        distance = projected @ self.precision @ projected
        return float(np.searchsorted(self.distances, distance) / len(self.distances))


@dataclass(eq=False)
class Novelty:
    """Scores of one network, whose simulations are kept per number of rows."""

    net: AmortizedPosterior
    _familiar: dict[tuple[int, int], Familiar] = field(default_factory=dict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def score(self, prepared: Dataset) -> float:
        """Between 0 and 1, see :meth:`Familiar.score`; NaN where nothing can be simulated for comparison."""
        net = self.net
        num_rows = int(np.sum(np.asarray(prepared.row_mask)))
        padded = prepared.pad_rows(net.padded_length(prepared.padded_rows))
        key = (num_rows, padded.padded_rows)
        with self._lock:
            if key not in self._familiar:
                self._familiar[key] = self._simulated(*key)
        features = net.programs.run(
            "novelty", self._features, net.params, padded, options=QUICK_TO_COMPILE if self._is_light else None
        ).outputs
        return self._familiar[key].score(np.asarray(features, np.float64))

    def _simulated(self, num_rows: int, padded_rows: int) -> Familiar:
        net = self.net

        def simulate(rng_key: Array, num_rows: Array, params: object) -> tuple[Array, Array]:
            def one(rng_key: Array) -> tuple[Array, Array]:
                _, dataset = net.task.simulate(rng_key, num_rows, padded_rows)
                return self._features(params, dataset), net.task.is_accepted(dataset)

            return jax.lax.map(one, jax.random.split(rng_key, NUM_SIMULATED), batch_size=16)

        arguments = jax.random.key(_SEED), num_rows, net.params
        features, kept = net.programs.run(
            ("simulated", padded_rows), simulate, *arguments, options=QUICK_TO_COMPILE if self._is_light else None
        ).outputs
        usable = np.asarray(kept) & np.isfinite(features).all(axis=1)
        return Familiar.of(np.asarray(features, np.float64)[usable], self._num_statistics)

    def _features(self, params: object, dataset: Dataset) -> Array:
        """Statistics of the rows, then values that the decoder attends to, averaged over memory tokens."""
        network = self.net.network
        statistics = jnp.stack(list(summary_statistics(network.task.features(dataset)).values()))
        memory = network.model(params).encode(*network.features(dataset))
        pooled = memory_mean(memory.blocks[0][1], memory.mask)
        return jnp.concatenate([statistics, pooled.ravel().astype(jnp.float32)])

    @property
    def _is_light(self) -> bool:
        """Whether compilation takes longer than what is compiled."""
        return not self.net.network.config.model.summaries

    @property
    def _num_statistics(self) -> int:
        features = jax.eval_shape(lambda: summary_statistics(self.net.task.features(self.net.task.example)))
        return len(features)


def memory_mean(values: Array, mask: AnyArray) -> Array:
    """Mean over memory tokens that exist: ``(heads, m, d)`` to ``(heads, d)``."""
    weights = mask / jnp.sum(mask)
    return jnp.einsum("hmd,m->hd", values, weights)
