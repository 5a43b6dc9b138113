"""Reading the posterior of a mixture, whose components have no names of their own.

Draws of a mixture come with their components in every order, so that means over draws say nothing about a component.
What does not depend on the order can be read at once: which rows belong together, how many components hold rows. For
the rest the components of all draws are brought into one order by the relabelling algorithm of Stephens (2000).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import jax
import numpy as np

from icl_bayes.types import AnyArray

if TYPE_CHECKING:
    import matplotlib.figure
    import pandas as pd

    from icl_bayes.inference.posterior import Posterior

_MAX_ROUNDS = 50
_SMALLEST = 1e-6  # of a probability whose logarithm is taken
_DRAWS_AT_ONCE = 256


@dataclass(frozen=True, eq=False)
class Mixture:
    """A mixture posterior with its components in one order.

    Attributes:
        sites: ``{site: (num_draws, M, ...)}``, in that order; component 0 has the largest mean weight.
        order: ``(num_draws, M)``: component ``m`` here is component ``order[draw, m]`` of the posterior's draw.
        probabilities: ``(num_draws, n, M)``, of every component for every row, in that order.
        occupied: ``(num_draws,)``, how many components hold rows, one allocation drawn for each draw.
        rows: ``(n, L)``, the data.
        agreement: mean probability, over rows and draws, with which a draw allocates a row as all draws do together
            (one if components are far apart; where it is low, summaries by component mean little).
    """

    sites: dict[str, np.ndarray]
    order: np.ndarray
    probabilities: np.ndarray
    occupied: np.ndarray
    rows: np.ndarray
    agreement: float = field(default=float("nan"))

    @property
    def num_components(self) -> int:
        return self.order.shape[1]

    def co_assignment(self) -> np.ndarray:
        """Posterior probability that two rows belong to the same component, ``(n, n)``; no order is needed."""
        flat = self.probabilities.transpose(1, 0, 2).reshape(len(self.rows), -1).astype(np.float64)
        together = flat @ flat.T / len(self.order)
        np.fill_diagonal(together, 1.0)
        return together

    def num_occupied(self) -> pd.Series:
        """Posterior probabilities of the number of components that hold rows, 1 to M; no order is needed."""
        import pandas as pd

        counts = np.bincount(self.occupied, minlength=self.num_components + 1)[1:]
        index = pd.RangeIndex(1, self.num_components + 1, name="components")
        return pd.Series(counts / len(self.occupied), index=index, name="probability")

    def clusters(self) -> np.ndarray:
        """The most probable component of every row, ``(n,)``, in the common order."""
        return self.probabilities.mean(axis=0).argmax(axis=1)

    def target_matrix(self) -> tuple[np.ndarray, list[str]]:
        """Stacked draws of all sites ``(num_draws, D)`` in the common order, and their labels."""
        columns, labels = [], []
        for name, values in self.sites.items():
            columns.append(values.reshape(len(values), -1))
            labels += [f"{name}{list(index)}" for index in np.ndindex(*values.shape[1:])]
        return np.concatenate(columns, axis=1), labels

    def summary(self, probability: float = 0.9) -> pd.DataFrame:
        """Mean, sd, median and central interval of every site of every component, in the common order.

        Args:
            probability: mass of the interval, in (0, 1).
        """
        from icl_bayes.inference.summaries import summarize

        return summarize(*self.target_matrix(), probability)

    def plot(self) -> matplotlib.figure.Figure:
        """Density and clusters on the data, co-assignment, and the number of occupied components."""
        from icl_bayes.inference.plots import plot_mixture

        return plot_mixture(self)


def read_mixture(posterior: Posterior) -> Mixture:
    """Bring the components of all draws into one order and allocate the rows.

    Raises:
        ValueError: for a model that is not a mixture.
    """
    task, dataset = posterior.task, posterior.dataset
    responsibilities = task.responsibilities
    if responsibilities is None:
        raise ValueError(f"The model {task.name!r} is not a mixture: its components have no rows to share.")
    keep = np.flatnonzero(np.asarray(dataset.row_mask))
    of_draw = jax.jit(
        lambda thetas, dataset: jax.lax.map(
            lambda theta: responsibilities(theta, dataset), thetas, batch_size=_DRAWS_AT_ONCE
        )
    )
    probabilities = np.asarray(of_draw(posterior.theta, dataset))[:, keep]
    order = relabelled_order(probabilities)
    probabilities = np.take_along_axis(probabilities, order[:, None, :], axis=2)
    sites = {}
    for name in task.outputs:
        values = np.asarray(posterior.sites[name])
        sites[name] = values[np.arange(len(values))[:, None], order]
    # The sum over components of gamma is arbitrary; weights are what it is for.
    sites.pop("gamma", None)
    mean = probabilities.mean(axis=0)
    agreement = float(np.mean(probabilities * mean) * probabilities.shape[2])
    return Mixture(sites, order, probabilities, _occupied(probabilities), np.asarray(dataset["x"])[keep], agreement)


def relabelled_order(probabilities: AnyArray) -> np.ndarray:
    """The order of each draw's components in which draws agree best about the rows (Stephens, 2000, section 4).

    Alternates between the mean allocation and, for every draw, the order with the smallest Kullback-Leibler
    divergence from it, until no order changes.

    Args:
        probabilities: ``(num_draws, n, M)``, of every component for every row.

    Returns:
        ``(num_draws, M)``, such that ``probabilities[draw][:, order[draw]]`` is in the common order, in which
        components have fewer and fewer rows.
    """
    from scipy.optimize import linear_sum_assignment

    given = np.asarray(probabilities, np.float64)
    num_draws, _, num_components = given.shape
    # The draw whose allocation is most decided makes a better start than a mean over all orders, which is flat.
    first = given[np.argmax(np.sum(given**2, axis=(1, 2)))]
    common, order = first, np.tile(np.arange(num_components), (num_draws, 1))
    for _ in range(_MAX_ROUNDS):
        # (draw, i, j): the cost of component j of the draw in place i.
        cost = -np.einsum("ni,dnj->dij", np.log(np.maximum(common, _SMALLEST)), given)
        found = np.stack([linear_sum_assignment(one)[1] for one in cost])
        if np.array_equal(found, order) and common is not first:
            break
        order = found
        common = np.take_along_axis(given, order[:, None, :], axis=2).mean(axis=0)
    return order[:, np.argsort(-common.sum(axis=0), kind="stable")]


def _occupied(probabilities: np.ndarray) -> np.ndarray:
    """Number of components with rows, ``(num_draws,)``, one allocation drawn for each draw."""
    edges = np.cumsum(probabilities, axis=2)
    uniform = np.random.default_rng(0).uniform(size=(*probabilities.shape[:2], 1))
    allocation = np.sum(uniform > edges[:, :, :-1], axis=2)
    num_components = probabilities.shape[2]
    return np.sum([np.any(allocation == m, axis=1) for m in range(num_components)], axis=0)
