"""A network as a method under comparison (``types.Sampler``): raw, polished or refined."""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass

import jax
import numpy as np

from icl_bayes.flow import Solver
from icl_bayes.inference.checks import check_against_training, check_base
from icl_bayes.inference.network import CHUNK, AmortizedPosterior
from icl_bayes.inference.posterior import Posterior
from icl_bayes.types import Array, Dataset, SampleResult


@dataclass(eq=False)
class NetworkSampler:
    """Draws as a network makes them, or after moves.

    Attributes:
        solver: the network's own if ``None``.
        polish: number of HMC moves from every draw.
    """

    posterior: AmortizedPosterior
    solver: Solver | None = None
    polish: int = 0
    name: str = "icl"

    def sample(self, rng_key: Array, dataset: Dataset, num_draws: int) -> SampleResult:
        """Draws with compile and run time apart; warnings of the range check become the status."""
        net, solver, polish = self.posterior, self.solver or self.posterior.solver, self.polish
        prepared = net.prepare(dataset)
        length = net.padded_length(prepared.padded_rows)
        size = min(num_draws, CHUNK)
        started, compilations = time.perf_counter(), net.compilations
        key = ("one", length, size, polish, False, solver)
        net._program(key, rng_key, prepared.pad_rows(length), size, solver, polish)
        if net.compilations > compilations:  # then the check's own program is not compiled yet, and neither is warm
            check_against_training(net.network, net.checkpoint.calibration, prepared, warn=False)
            net._draw(rng_key, prepared, size, solver, polish)
        compiled = time.perf_counter()
        notes = check_against_training(net.network, net.checkpoint.calibration, prepared, warn=False)
        drawn = net._draw(rng_key, prepared, num_draws, solver, polish)
        seconds = time.perf_counter() - compiled
        notes += check_base(drawn.decrement, drawn.rival, warn=False)
        # Draws are independent given the network, so the effective number is the number drawn.
        health = {"ess": float(num_draws), "base_decrement": drawn.decrement, "rival_mass": float(np.exp(drawn.rival))}
        if polish:
            health["acceptance"] = drawn.acceptance
        status = "warning" if notes else "ok"
        return SampleResult(drawn.sites, compiled - started, seconds, status, "; ".join(notes), health)


@dataclass(eq=False)
class RefinedSampler:
    """Draws after :meth:`Posterior.refine`, with its verdict; rejected ones count as failed and are not scored.

    Attributes:
        solver: the network's own if ``None``.
    """

    posterior: AmortizedPosterior
    solver: Solver | None = None
    name: str = "icl"

    def sample(self, rng_key: Array, dataset: Dataset, num_draws: int) -> SampleResult:
        """Draws; where something had to be compiled all is done again, and the second time counts."""
        started, before = time.perf_counter(), self._compiled
        post = self._refined(rng_key, dataset, num_draws)
        seconds_compile, finished = 0.0, time.perf_counter()
        if self._compiled != before:
            seconds_compile, started = finished - started, finished
            post = self._refined(rng_key, dataset, num_draws)
            finished = time.perf_counter()
        certificate = post.certificate()
        health = {
            "ess": float(num_draws),
            "khat": certificate.khat,
            "total_variation": certificate.total_variation,
            "log_evidence": certificate.log_evidence,
        }
        path = " > ".join(f"{step.name}{'' if step.passed else ' (failed)'}" for step in certificate.path)
        message = "; ".join(part for part in (f"{certificate.verdict} by {path}", *certificate.reasons) if part)
        status = "failed" if certificate.verdict == "rejected" else "ok"
        return SampleResult(
            dict(post.sites), seconds_compile, finished - started, status, message, health, certificate.verdict
        )

    def _refined(self, rng_key: Array, dataset: Dataset, num_draws: int) -> Posterior:
        draw_key, refine_key = jax.random.split(rng_key)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # notes are among the certificate's reasons
            return self.posterior.sample(draw_key, dataset, num_draws, solver=self.solver).refine(refine_key)

    @property
    def _compiled(self) -> tuple[int, int]:
        """What changes when a program is compiled."""
        return self.posterior.compilations, len(self.posterior.programs)
