"""Variational inference with NumPyro, fitted afresh to every data set inside one program."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpyro.infer import SVI, Trace_ELBO
from numpyro.optim import Adam

from icl_bayes.baselines.common import all_finite, check_num_draws, verdict
from icl_bayes.baselines.guides import GUIDES
from icl_bayes.baselines.programs import ProgramCache
from icl_bayes.tasks import Task
from icl_bayes.types import Array, Dataset, SampleResult

_LEARNING_RATES = {"iaf": 1e-3}
_DEFAULT_LEARNING_RATE = 1e-2
_NUM_ELBO_PARTICLES = 256
_MAX_GAIN_ERROR = 0.25  # nats: an ELBO this noisy comes from a fit far from the posterior
_MAX_GAIN = 0.1  # nats by which the ELBO may move over the last quarter of the steps


class FittedGuide(NamedTuple):
    """Draws of a fitted guide, and its ELBO before and after the last quarter of the steps.

    Attributes:
        sites: constrained draws.
        elbo_before, elbo_after: ``(particle,)``, one-draw estimates under common random numbers.
    """

    sites: dict[str, Any]
    elbo_before: Any
    elbo_after: Any


@dataclass(frozen=True)
class VariationalSampler:
    """Draws from a variational fit in NumPyro's own unconstrained coordinates, as in the paper.

    Attributes:
        task: the model.
        guide: ``diagonal``, ``full``, ``structured`` or ``iaf``.
        num_steps: full-data Adam steps on a one-draw ELBO.
        learning_rate: 0 for the paper's: 1e-3 for ``iaf``, else 1e-2.
    """

    task: Task
    guide: str = "full"
    num_steps: int = 2000
    learning_rate: float = 0.0
    name: str = ""
    programs: ProgramCache = field(default_factory=ProgramCache, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.guide not in GUIDES:
            raise ValueError(f"Unknown guide {self.guide!r}; choices: {', '.join(GUIDES)}.")
        if self.num_steps < 4 or self.num_steps % 4:
            raise ValueError(f"num_steps must be a positive multiple of 4; received {self.num_steps}.")
        if self.learning_rate < 0:
            raise ValueError(f"learning_rate must not be negative; received {self.learning_rate}.")
        if not self.learning_rate:
            object.__setattr__(self, "learning_rate", _LEARNING_RATES.get(self.guide, _DEFAULT_LEARNING_RATE))
        object.__setattr__(self, "name", self.name or f"vi_{self.guide}")

    def sample(self, rng_key: Array, dataset: Dataset, num_draws: int) -> SampleResult:
        """Independent draws of the guide; a ``warning`` if the ELBO was still moving.

        ``health`` holds ``elbo`` with its standard error ``elbo_error``, and ``elbo_gain`` over the
        last quarter of the steps with ``elbo_gain_error``, estimated with common random numbers. A
        gain means more steps are needed, a loss that the step size keeps the fit from settling.
        """
        check_num_draws(num_draws)
        call = self.programs.run(num_draws, partial(self._fit, num_draws), rng_key, self.task.prepare(dataset))
        fitted: FittedGuide = call.outputs
        gain = np.asarray(fitted.elbo_after, np.float64) - np.asarray(fitted.elbo_before, np.float64)
        health = {
            "elbo": float(np.mean(fitted.elbo_after)),
            "elbo_error": _standard_error(fitted.elbo_after),
            "elbo_gain": float(np.mean(gain)),
            "elbo_gain_error": _standard_error(gain),
        }
        failures, warnings = [], []
        if not all_finite(fitted.sites):
            failures.append("some draws are not finite")
        if not np.isfinite(health["elbo"]):
            failures.append(f"the ELBO is {health['elbo']}")
        elif abs(health["elbo_gain"]) > _MAX_GAIN + 2.0 * health["elbo_gain_error"]:
            warnings.append(
                f"not converged: the ELBO moved by {health['elbo_gain']:+.2f} nats over the last quarter of "
                f"{self.num_steps} steps (limit {_MAX_GAIN})"
            )
        elif health["elbo_gain_error"] > _MAX_GAIN_ERROR:
            warnings.append(
                f"not converged: ELBO estimates are too noisy to judge (standard error {health['elbo_gain_error']:.2g} "
                f"nats, limit {_MAX_GAIN_ERROR})"
            )
        status, message = verdict(failures, warnings)
        return SampleResult(fitted.sites, call.seconds_compile, call.seconds_run, status, message, health)

    def _fit(self, num_draws: int, rng_key: Array, dataset: Dataset) -> FittedGuide:
        init_key, elbo_key, draw_key = jax.random.split(rng_key, 3)
        # Guides keep what they saw at their first call, so each fit makes its own.
        guide = GUIDES[self.guide](self.task.model)
        svi = SVI(self.task.model, guide, Adam(self.learning_rate), Trace_ELBO())

        def quarter(state: Any, _: None) -> tuple[Any, Any]:
            advance = lambda _, state: svi.update(state, dataset)[0]  # noqa: E731
            state = jax.lax.fori_loop(0, self.num_steps // 4, advance, state)
            return state, svi.get_params(state)

        _, history = jax.lax.scan(quarter, svi.init(init_key, dataset), None, length=4)
        elbo_keys = jax.random.split(elbo_key, _NUM_ELBO_PARTICLES)

        def elbos(params: Any) -> Array:
            loss = lambda key: Trace_ELBO().loss(key, params, self.task.model, guide, dataset)  # noqa: E731
            return -jnp.asarray(jax.vmap(loss)(elbo_keys))

        elbo_before, elbo_after = jax.lax.map(elbos, jax.tree.map(lambda leaf: leaf[-2:], history))
        params = jax.tree.map(lambda leaf: leaf[-1], history)
        draw = lambda key: guide.sample_posterior(key, params)  # noqa: E731
        sites = jax.vmap(draw)(jax.random.split(draw_key, num_draws))
        return FittedGuide({name: sites[name] for name in self.task.sites}, elbo_before, elbo_after)


def _standard_error(values: np.ndarray) -> float:
    return float(np.std(values, ddof=1) / np.sqrt(len(values)))
