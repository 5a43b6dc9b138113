"""What :func:`icl_bayes.glm` returns: draws by name, predictions for new rows, checks, plots."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import expit

from icl_bayes.regression.design import Design, as_frame, numbers
from icl_bayes.regression.priors import RegressionPriors
from icl_bayes.tasks.regression import FAMILIES, MISSING_CELLS
from icl_bayes.types import Array, Dataset

if TYPE_CHECKING:
    import matplotlib.figure
    import pandas as pd

    from icl_bayes.inference import Posterior
    from icl_bayes.inference.certificate import Certificate
    from icl_bayes.inference.predictive import PredictiveFit

_NO_CELLS = np.zeros(0, int)


@dataclass(frozen=True, eq=False)
class RegressionPosterior:
    """The posterior of a regression.

    Attributes:
        posterior: draws by site (``intercept``, ``beta``, ``sigma`` ...), see :class:`icl_bayes.inference.Posterior`.
        design: columns, and the rows that were used.
        family: of the response.
        priors: as stated, or by default.
        formula: as given.
        observations: which row of the posterior's data set each observation is, ``(N,)``; rows that are equal, or of a
            larger weight, are several.
    """

    posterior: Posterior
    design: Design
    family: str
    priors: RegressionPriors
    formula: str
    observations: np.ndarray

    def __repr__(self) -> str:
        return f"RegressionPosterior({self.formula!r}, {self.family}, {len(self.design.y)} rows, {self.certificate})"

    @property
    def certificate(self) -> Certificate:
        """Whether to trust the draws, and why."""
        return self.posterior.certificate()

    @property
    def engine(self) -> str:
        """What the draws were made by."""
        return str(self.posterior.info.get("engine", "closest Gaussian"))

    @property
    def names(self) -> list[str]:
        """Of the columns of :attr:`draws`."""
        named = ["Intercept"] * self.design.has_intercept + list(self.design.columns)
        dispersion = FAMILIES[self.family].dispersion
        return named + [dispersion] * bool(dispersion)

    @property
    def draws(self) -> pd.DataFrame:
        """Joint draws, one column per name."""
        import pandas as pd

        return pd.DataFrame(self._estimates, columns=pd.Index(self.names))

    @property
    def _estimates(self) -> np.ndarray:
        """Draws of everything but missing cells, ``(num_draws, len(names))``."""
        return self.posterior.target_matrix()[0][:, : len(self.names)]

    @property
    def missing_cells(self) -> pd.DataFrame:
        """Draws of the covariates' cells that were integrated out, one column ``name[row]`` each."""
        import pandas as pd

        rows, columns = np.nonzero(np.isnan(self.design.x))
        names = [f"{self.design.columns[column]}[{row}]" for row, column in zip(rows, columns, strict=True)]
        draws = self.posterior[MISSING_CELLS] if names else np.empty((self.posterior.num_draws, 0))
        return pd.DataFrame(draws, columns=pd.Index(names))

    def summary(self, probability: float = 0.9) -> pd.DataFrame:
        """Mean, sd, median, central interval, probability of a positive value, and prior of everything estimated."""
        from icl_bayes.inference.summaries import summarize

        draws = self._estimates
        table = summarize(draws, self.names, probability)
        table["P(> 0)"] = (draws > 0.0).mean(axis=0)
        parts = [self.priors.intercept, *self.priors.coefficients, self.priors.dispersion]
        table["prior"] = [str(one) for one in parts if one is not None]
        return table

    def linear_predictor(self, data: Any = None, *, offset: str = "") -> np.ndarray:
        """Draws of the linear predictor, ``(num_draws, m)``, for new rows or those of the data without their offset."""
        if data is None:
            linear = self._linear(np.nan_to_num(self.design.x), *np.nonzero(np.isnan(self.design.x)))
        else:
            linear = self._linear(self.design.of(data))
        if offset:
            frame = as_frame(data)
            linear += numbers(frame, offset, np.arange(len(frame)), "offset")
        return linear

    def _linear(self, x: np.ndarray, rows: np.ndarray = _NO_CELLS, columns: np.ndarray = _NO_CELLS) -> np.ndarray:
        """Draws of the linear predictor without offset, ``(num_draws, m)``.

        Args:
            x: ``(m, p)``, zero where cells are missing.
            rows, columns: where those lie, in their order.
        """
        linear = np.zeros((self.posterior.num_draws, len(x)))
        if self.design.columns:
            linear += self.posterior["beta"] @ x.T
        for index, (row, column) in enumerate(zip(rows, columns, strict=True)):
            linear[:, row] += self.posterior[MISSING_CELLS][:, index] * self.posterior["beta"][:, column]
        if self.design.has_intercept:
            linear += self.posterior["intercept"][:, None]
        return linear

    def expected(self) -> np.ndarray:
        """Draws of the mean of the rows as the task has them, offsets included, ``(num_draws, n)``."""
        dataset = self.posterior.dataset
        cell = np.asarray(dataset.rows.get("cell", np.zeros_like(dataset["x"])))
        rows, columns = np.nonzero(cell)
        order = np.argsort(cell[rows, columns])
        linear = self._linear(np.asarray(dataset["x"], np.float64), rows[order], columns[order])
        return self.inverse_link(linear + np.asarray(dataset["offset"], np.float64))

    def mean(self, data: Any = None, *, offset: str = "") -> np.ndarray:
        """Draws of the expected response (binomial: probability of success), ``(num_draws, m)``."""
        return self.inverse_link(self.linear_predictor(data, offset=offset))

    def inverse_link(self, linear: np.ndarray) -> np.ndarray:
        """Expected responses of linear predictors, of any shape."""
        link = FAMILIES[self.family].link
        if link == "identity":
            return linear
        return np.exp(linear) if link == "log" else expit(linear)

    def predict(self, rng_key: Array, data: Any = None, *, offset: str = "", trials: str = "") -> np.ndarray:
        """Draws of responses, ``(num_draws, m)``, for new rows, or replicates of the data.

        Args:
            rng_key: ``jax.random.key(...)``.
            data: frame with the columns of the formula, by default the data themselves, equal rows together.
            offset, trials: columns of it, as in :func:`icl_bayes.glm`.

        Raises:
            ValueError: for rows that do not fit the formula.
        """
        if data is None:
            return next(iter(self.posterior.predict(rng_key).values()))
        frame = as_frame(data)
        everywhere = np.arange(len(frame))
        if self.family == "binomial" and not trials:
            raise ValueError("Numbers of successes depend on those of trials; say which column counts them, trials=...")
        x, plain = self.design.of(data), {"weight", "precision", "trials"} & set(self.posterior.dataset.rows)
        rows: dict[str, Any] = {name: np.ones(len(frame)) for name in plain}
        if "cell" in self.posterior.dataset.rows:
            rows["cell"] = np.zeros_like(x)
        rows["offset"] = numbers(frame, offset, everywhere, "offset") if offset else np.zeros(len(frame))
        if trials:
            rows["trials"] = numbers(frame, trials, everywhere, "trials")
        return next(iter(self.posterior.predict(rng_key, Dataset(x=x, **rows)).values()))

    @property
    def responses(self) -> np.ndarray:
        """Of all observations, ``(N,)``, in the order of the rows."""
        dataset = self.posterior.dataset
        values = np.exp(dataset["log_y"]) if self.family == "gamma" else np.asarray(dataset["y"])
        return values[self.observations]

    def log_likelihood(self) -> np.ndarray:
        """Log density of every observation under every draw, ``(num_draws, N)``, in the order of the rows."""
        values = self.posterior.log_likelihood()
        weight = np.asarray(self.posterior.dataset["weight"], np.float64)
        unit = (values / np.where(weight > 0.0, weight, 1.0))[:, self.observations]
        if self.family == "gamma":  # whose responses are kept as logarithms
            unit = unit - np.asarray(self.posterior.dataset["log_y"], np.float64)[self.observations]
        return unit

    def loo(self) -> PredictiveFit:
        """Leave-one-out cross-validation of single observations by Pareto-smoothed importance sampling.

        Raises:
            ValueError: if covariates lack cells; each is known to one observation only, which would predict itself.
        """
        if np.isnan(self.design.x).any():
            raise ValueError(
                "Leave-one-out needs the density of an observation with its missing cells integrated out, which is not "
                "at hand; fit the complete rows (missing='drop') to compare models."
            )
        from icl_bayes.inference.predictive import leave_one_out

        return leave_one_out(self.log_likelihood())

    def log_evidence(self) -> float:
        """Estimate of the log density of the responses under the model, see :meth:`certificate` for its error."""
        found = self.certificate.log_evidence
        if self.family != "gamma":
            return found
        return found - float(np.asarray(self.posterior.dataset["log_y"], np.float64)[self.observations].sum())

    def plot(self, reference: Mapping[str, np.ndarray] | None = None) -> matplotlib.figure.Figure:
        """Intervals of the coefficients, and draws of the mean against observed responses."""
        from icl_bayes.regression.plots import regression_figure

        return regression_figure(self, reference)

    def to_inference_data(self, **options: Any) -> Any:
        """For ArviZ, see :meth:`icl_bayes.inference.Posterior.to_inference_data`."""
        return self.posterior.to_inference_data(**options)
