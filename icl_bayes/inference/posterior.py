"""A posterior: constrained, named draws with summaries, plots and a bridge to ArviZ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from icl_bayes.tasks import Task
from icl_bayes.types import Array, Dataset

if TYPE_CHECKING:
    import matplotlib.figure
    import pandas as pd

    from icl_bayes.inference.certificate import Certificate
    from icl_bayes.inference.mcmc_start import BlackjaxStart, NumpyroStart
    from icl_bayes.inference.mixture import Mixture
    from icl_bayes.inference.origin import Origin
    from icl_bayes.inference.predictive import PredictiveFit
    from icl_bayes.inference.sampler import Densities


@dataclass(eq=False)
class Posterior(Mapping[str, np.ndarray]):
    """Joint draws of one posterior. Indexing by site name gives constrained draws.

    Attributes:
        task: the model.
        dataset: the prepared data the draws are conditioned on.
        theta: ``(num_draws, dim)`` unconstrained draws.
        sites: ``{site: (num_draws, *shape)}`` constrained draws.
        notes: warnings about the data set, in words; empty if it lies in the training range.
        info: network, weights, solver and seconds.
        densities: of the draws, if they were asked for.
        origin: what the draws came from, which can check and repair them.
        known_certificate: the result of :meth:`certificate` or :meth:`refine`, once computed.
    """

    task: Task
    dataset: Dataset
    theta: np.ndarray
    sites: dict[str, np.ndarray]
    notes: tuple[str, ...] = ()
    info: dict[str, Any] = field(default_factory=dict)
    densities: Densities | None = None
    origin: Origin | None = None
    known_certificate: Certificate | None = None

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self.sites:
            raise KeyError(f"The posterior has no site {name!r}; its sites are {list(self.sites)}.")
        return self.sites[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.sites)

    def __len__(self) -> int:
        return len(self.sites)

    @property
    def num_draws(self) -> int:
        return self.theta.shape[0]

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name}{value.shape}" for name, value in self.sites.items())
        return f"Posterior({self.task.name}: {shapes})"

    @property
    def log_prob(self) -> np.ndarray:
        """Log density of the draws in the units of the model, ``(num_draws,)``, of the law they were drawn from.

        Raises:
            ValueError: for draws whose density is not known: after moves, or from the adaptive solver.
        """
        from icl_bayes.inference.origin import KnowsDensity

        known = np.asarray(self._known_densities().log_prob)
        if np.isnan(known).all() and isinstance(self.origin, KnowsDensity):
            return self.origin.log_prob(self.dataset, self.sites)
        return known

    def certificate(self) -> Certificate:
        """Whether to trust the draws: k-hat, evidence, distance from the posterior, and a verdict with its reasons.

        Draws without densities are drawn again, with them; ``sample(..., with_log_prob=True)`` spares that.
        """
        if self.known_certificate is None:
            self.known_certificate = self._certify()
        return self.known_certificate

    def _certify(self) -> Certificate:
        from icl_bayes.evaluation.importance_weights import MIN_DRAWS
        from icl_bayes.inference.certificate import Certificate, certify

        if self.num_draws < MIN_DRAWS:
            reason = f"{self.num_draws} draw(s) are too few for a verdict, which takes at least {MIN_DRAWS}"
            return Certificate("unchecked", (reason,), novelty=self.novelty)
        try:
            log_weights = self.log_weights
        except ValueError as error:
            return Certificate("unchecked", (str(error),), novelty=self.novelty)
        has_far_modes = self.task.has_far_modes or self.task.num_exchangeable > 0
        return certify(log_weights, self.notes, has_far_modes=has_far_modes, novelty=self.novelty)

    @property
    def novelty(self) -> float:
        """How unusual the data set is for the network: the share of its training's data sets that are less unusual.

        NaN for draws that did not come from a network.
        """
        return np.nan if self.origin is None else self.origin.novelty(self.dataset)

    @property
    def log_weights(self) -> np.ndarray:
        """Log importance weights of the draws, log joint minus log density, ``(num_draws,)``.

        Of a network whose base has several modes they are those of the draws together with their modes
        (:mod:`icl_bayes.flow.gaussian_modes`).

        Raises:
            ValueError: as for :attr:`log_prob`.
        """
        return np.asarray(self._known_densities().log_weight)

    def refine(self, rng_key: Array, target: float = 0.05) -> Posterior:
        """Draws that passed a check, repaired as far as that takes, with a certificate that says how.

        Draws whose importance weights are good enough are returned as they are. The others are moved by HMC until
        chains neither drift nor remember their starts (``polished``); where that does not help, resampled by their
        weights (``resampled``), moved for longer, or replaced by draws of the task's reference (``refined``). What
        passes no check is returned with the verdict ``rejected``; ``post.refine(key).certificate()`` says why.

        Args:
            rng_key: ``jax.random.key(...)``.
            target: estimated total variation from the posterior at which draws are left as they are.

        Raises:
            ValueError: for draws of unknown origin.
        """
        if self.origin is None:
            raise ValueError("It is not known what these draws came from, so there is nothing to refine them with.")
        return self.origin.refine(self, rng_key, target)

    def _known_densities(self) -> Densities:
        if self.info.get("moves") or "refined_by" in self.info:
            raise ValueError("After moves (polish, refine) the density of the draws is not known.")
        if self.densities is None:
            if self.origin is None:
                raise ValueError("These draws came without densities; sample with with_log_prob=True.")
            self.densities = self.origin.densities(self.dataset, self.num_draws)
        return self.densities

    def compared_matrix(self) -> np.ndarray:
        """Stacked draws of the compared sites, ``(num_draws, D)``."""
        return self.task.compared_matrix(self.sites)

    def target_matrix(self) -> tuple[np.ndarray, list[str]]:
        """Stacked draws of all target sites ``(num_draws, D)`` and their labels."""
        columns = [self.sites[name].reshape(self.num_draws, -1) for name in self.task.target]
        return np.concatenate(columns, axis=1), self.task.site_names("target")

    def summary(self, probability: float = 0.9) -> pd.DataFrame:
        """Mean, sd, median and central interval of every coordinate, in the units of the model.

        Args:
            probability: mass of the interval, in (0, 1).
        """
        from icl_bayes.inference.summaries import summarize

        draws, labels = self.target_matrix()
        return summarize(draws, labels, probability)

    def to_inference_data(self, *, log_likelihood: bool = False, predictive: Array | None = None) -> Any:
        """ArviZ ``InferenceData`` (ArviZ 0.23) or ``DataTree`` (ArviZ 1) with posterior, data, and certificate.

        Args:
            log_likelihood: also of every row, see :meth:`log_likelihood`.
            predictive: random key for replicated responses, see :meth:`predict`; none without.
        """
        from icl_bayes.inference.arviz_bridge import to_inference_data

        return to_inference_data(self, log_likelihood=log_likelihood, predictive=predictive)

    def log_likelihood(self) -> np.ndarray:
        """Of every row given every draw, in nats, ``(num_draws, n)``.

        Raises:
            ValueError: for models whose rows are not independent given their sites.
        """
        from icl_bayes.inference.predictive import log_likelihood

        return log_likelihood(self)

    def predict(self, rng_key: Array, dataset: Dataset | None = None) -> dict[str, np.ndarray]:
        """Posterior predictive draws ``{response: (num_draws, m, ...)}``, in the units of the data.

        Args:
            dataset: covariates to predict at, ``Dataset(x=X_new)``; those of the data if ``None``.

        Raises:
            ValueError: for covariates of another form than those of the data, or values that are not finite.
        """
        from icl_bayes.inference.predictive import predict

        return predict(self, rng_key, dataset)

    def loo(self) -> PredictiveFit:
        """Leave-one-out cross-validation by Pareto-smoothed importance sampling, with ArviZ."""
        from icl_bayes.inference.predictive import loo

        return loo(self)

    def waic(self) -> PredictiveFit:
        """The widely applicable information criterion, on the scale of log densities."""
        from icl_bayes.inference.predictive import waic

        return waic(self)

    def numpyro_start(self, rng_key: Array, num_chains: int = 4) -> NumpyroStart:
        """Starts and mass matrix for NumPyro's NUTS of the same model, in its own unconstrained coordinates.

        Args:
            rng_key: chooses the draws that chains start from.
            num_chains: at most the number of draws.
        """
        from icl_bayes.inference.mcmc_start import numpyro_start

        return numpyro_start(self, rng_key, num_chains)

    def blackjax_start(self, rng_key: Array, num_chains: int = 4) -> BlackjaxStart:
        """The same for kernels of blackjax, in the task's coordinates, with the log density to sample from."""
        from icl_bayes.inference.mcmc_start import blackjax_start

        return blackjax_start(self, rng_key, num_chains)

    def mixture(self) -> Mixture:
        """The posterior of a mixture, read without regard to the numbers of its components.

        Raises:
            ValueError: for a model that is not a mixture.
        """
        from icl_bayes.inference.mixture import read_mixture

        return read_mixture(self)

    def plot(self, reference: Mapping[str, np.ndarray] | None = None) -> matplotlib.figure.Figure:
        """Marginal densities of every coordinate; ``reference`` draws are drawn beside them.

        Args:
            reference: ``{site: (num, *shape)}``, for example from a baseline.
        """
        from icl_bayes.inference.plots import plot_marginals

        return plot_marginals(self, reference)
