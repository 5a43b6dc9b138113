"""Where a posterior's draws come from: what is needed to ask more of them later."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from icl_bayes.flow import Solver
from icl_bayes.inference.refinement import refine
from icl_bayes.types import Array, Dataset

if TYPE_CHECKING:
    from icl_bayes.inference.network import AmortizedPosterior
    from icl_bayes.inference.posterior import Posterior
    from icl_bayes.inference.sampler import Densities


class Origin(Protocol):
    """What draws came from, as far as a posterior needs it."""

    def densities(self, dataset: Dataset, num_draws: int) -> Densities: ...

    def novelty(self, dataset: Dataset) -> float: ...

    def refine(self, post: Posterior, rng_key: Array, target: float) -> Posterior: ...


@runtime_checkable
class KnowsDensity(Protocol):
    """An origin that can say the density of draws in a pass of its own."""

    def log_prob(self, dataset: Dataset, sites: Mapping[str, np.ndarray]) -> np.ndarray: ...


@dataclass(frozen=True, eq=False)
class NetworkOrigin:
    """A network, and how it was called.

    Attributes:
        rng_key: of the draws.
        solver: of the ODE.
    """

    net: AmortizedPosterior
    rng_key: Array
    solver: Solver

    def densities(self, dataset: Dataset, num_draws: int) -> Densities:
        """Of draws that were made without, in another pass.

        Raises:
            ValueError: for the adaptive solver, which has none.
        """
        return self.net._draw(self.rng_key, dataset, num_draws, self.solver, with_log_prob=True).densities

    def log_prob(self, dataset: Dataset, sites: Mapping[str, np.ndarray]) -> np.ndarray:
        """See :meth:`AmortizedPosterior.log_prob`."""
        return self.net.log_prob(dataset, sites, solver=self.solver)

    def novelty(self, dataset: Dataset) -> float:
        """See :mod:`icl_bayes.inference.novelty`."""
        return self.net.novelty.score(dataset)

    def refine(self, post: Posterior, rng_key: Array, target: float) -> Posterior:
        """See :meth:`icl_bayes.Posterior.refine`."""
        return refine(self.net, post, rng_key, target)
