"""From a network's draws to draws that can be trusted: repairs in order of their cost, each checked before it counts.

Raw draws are returned as they are where their importance weights say that they are close enough. Otherwise they are
resampled by these weights where k-hat and the effective number allow it, or moved (*polished*) until chains neither
drift nor remember where they started; then moved for longer; in the end the task's reference takes their place, which
owes nothing to the network. Where modes may lie far apart weights and chains alone cannot vouch for their masses, so
that moves come first and an independent probe, a rough run of tempered SMC, has to agree.

Nothing can get worse unnoticed: moves and references leave the posterior invariant, resampling happens only where the
weights can be relied on, and what fails its check is not returned as better than it is.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

import jax
import numpy as np

from icl_bayes.baselines.reference import reference_draws
from icl_bayes.evaluation.importance_weights import MIN_DRAWS, report_weights
from icl_bayes.evaluation.stationarity import mean_distance, stationarity
from icl_bayes.flow import LIKELIHOOD_BASES, Affine, Solver
from icl_bayes.inference.certificate import FATAL, MAX_KHAT, UNSEEN, Certificate, Step, certify
from icl_bayes.inference.repairs import Moved, Repairs, resample
from icl_bayes.types import Array

if TYPE_CHECKING:
    from icl_bayes.inference.network import AmortizedPosterior
    from icl_bayes.inference.posterior import Posterior

TARGET = 0.05
"""Total variation at which raw draws are returned as they are: the best classifier is then right in 52.5 %."""
FIRST_MOVES, LONGER_MOVES = 5, (20, 80)
"""Moves of each of two stretches, and of those that follow if they were too few."""
MAX_LEFT = 0.05
"""Bias that may be left in any feature, in standard deviations."""
MIN_EFFICIENCY, MIN_ESS = 0.5, 100.0
"""Effective share of the draws, where resampling is to suffice, and number, where moves follow, that it takes."""
MAX_PROBE_DISTANCE = 0.5
"""Of means of label-free features from the probe's, in standard deviations, by which a probe may differ by chance."""


class _Outcome(NamedTuple):
    """Draws, whether they passed, why not, and what was measured."""

    thetas: np.ndarray
    sites: dict[str, np.ndarray]
    passed: bool
    reasons: tuple[str, ...]
    measured: str = ""


def refine(
    net: AmortizedPosterior, solver: Solver, post: Posterior, rng_key: Array, target: float = TARGET
) -> Posterior:
    """See :meth:`icl_bayes.Posterior.refine`; further draws are made with ``solver``."""
    if not 0.0 <= target <= 1.0:
        raise ValueError(f"target is a total variation, between 0 and 1; received {target}.")
    if post.num_draws < MIN_DRAWS or post.task.nuisance:
        return replace(post, known_certificate=post.certificate())
    return _Refinement(net, solver, post, rng_key, target).run()


@dataclass
class _Refinement:
    """One posterior on its way.

    Attributes:
        path: what was done, with what it cost and found.
        raw: the certificate of the raw draws, if densities are known.
    """

    net: AmortizedPosterior
    solver: Solver
    post: Posterior
    rng_key: Array
    target: float
    path: list[Step] = field(default_factory=list)
    raw: Certificate | None = None
    _probe: np.ndarray | None = None

    def __post_init__(self) -> None:
        self.task, self.dataset = self.post.task, self.post.dataset
        # Programs are compiled for the length that the network pads to.
        self.padded = self.dataset.pad_rows(self.net._length(self.dataset.padded_rows))
        self.repairs = Repairs(self.task, self.net.programs)
        self.has_far_modes = self.task.has_far_modes or self.task.num_exchangeable > 0
        self.is_fatal = any(mark in note for note in self.post.notes for mark in FATAL)

    def run(self) -> Posterior:
        raw = self._check_raw()
        if raw is not None and raw.verdict == "good":
            return replace(self.post, known_certificate=replace(raw, path=tuple(self.path)))
        if not self.is_fatal:
            found = self._repaired()
            if found is not None:
                return self._finish(*found)
        reference = self._reference()
        return self._finish("refined" if reference.passed else "rejected", reference)

    def _repaired(self) -> tuple[str, _Outcome] | None:
        """Verdict and draws of the first repair that passes."""
        if not self.has_far_modes:
            resampled = self._resample()
            if resampled is not None:
                return "resampled", resampled
        polished = self._polish(self.post.theta, "polish", 1)
        if polished.passed:
            return "polished", polished
        if not self.has_far_modes:
            longer = self._longer(polished)
            return ("refined", longer) if longer.passed else None
        chosen = self._chosen_by_weight()
        if chosen is not None:
            moved = self._polish(chosen, "polish", 9)
            if moved.passed:
                return "resampled", moved
        return None

    # ---------------------------------------------------------------- steps

    def _check_raw(self) -> Certificate | None:
        """The verdict on draws as they are, where their densities are known or cheap enough to find out."""
        if self.post.info.get("moves") or (self.has_far_modes and self.post.densities is None):
            return None
        started = time.perf_counter()
        try:
            log_weights = self.post.log_weights
        except ValueError:  # the solver has no densities
            return None
        notes = self.post.notes
        raw = certify(log_weights, notes, has_far_modes=self.has_far_modes, max_total_variation=self.target)
        self.raw = raw
        remark = f"k-hat {raw.khat:.2f}, total variation {raw.total_variation:.3f}"
        self._note("weights", started, raw.verdict == "good", remark)
        return raw

    def _polish(self, thetas: np.ndarray, name: str, index: int) -> _Outcome:
        """Two short stretches of moves, checked."""
        started = time.perf_counter()
        middle = self._moved(index, 0, thetas, FIRST_MOVES)
        end = self._moved(index, 1, middle.thetas, FIRST_MOVES)
        outcome = self._judged(thetas, middle, end)
        self._note(name, started, outcome.passed, outcome.measured)
        return outcome

    def _longer(self, outcome: _Outcome) -> _Outcome:
        """Further stretches, each longer than the last, until chains pass."""
        for index, num_moves in enumerate(LONGER_MOVES, 2):
            started = time.perf_counter()
            middle = self._moved(index, 0, outcome.thetas, num_moves)
            end = self._moved(index, 1, middle.thetas, num_moves)
            outcome = self._judged(self.post.theta, middle, end)
            self._note(f"{2 * num_moves} more moves", started, outcome.passed, outcome.measured)
            if outcome.passed:
                break
        return outcome

    def _resample(self) -> _Outcome | None:
        """As many draws as there are, chosen by weight among twice as many, so that hardly any comes twice.

        ``None`` where weights are not known or can't be relied on.
        """
        if self.raw is None or not self.raw.khat < MAX_KHAT:
            return None
        started = time.perf_counter()
        key, num = jax.random.fold_in(self.rng_key, 8), self.post.num_draws
        more = self.net._draw(key, self.dataset, num, self.solver, with_log_prob=True)
        thetas = np.concatenate([self.post.theta, more.theta])
        report = report_weights(np.concatenate([self.post.log_weights, more.densities.log_weight]))
        chosen = resample(self._generator(), report.log_weights, num)
        efficiency = report.ess / len(thetas)
        passed = report.khat < MAX_KHAT and efficiency >= MIN_EFFICIENCY
        kinds = len(np.unique(chosen)) / num
        remark = f"k-hat {report.khat:.2f}, efficiency {efficiency:.2f}, {kinds:.0%} of the draws different"
        self._note("resample", started, passed, remark)
        sites = {name: np.concatenate([self.post.sites[name], more.sites[name]])[chosen] for name in self.post.sites}
        return _Outcome(thetas[chosen], sites, passed, ()) if passed else None

    def _chosen_by_weight(self) -> np.ndarray | None:
        """Draws ``(num_draws, dim)``, some of them many times, to move apart; ``None`` likewise."""
        started = time.perf_counter()
        try:
            report = report_weights(self.post.log_weights)
        except ValueError:  # the solver has no densities
            return None
        if self.raw is None:
            self.raw = certify(self.post.log_weights, self.post.notes, has_far_modes=self.has_far_modes)
        passed = report.khat < MAX_KHAT and report.ess >= MIN_ESS
        self._note("resample", started, passed, f"k-hat {report.khat:.2f}, importance ESS {report.ess:.0f}")
        return self.post.theta[resample(self._generator(), report.log_weights, self.post.num_draws)] if passed else None

    def _reference(self) -> _Outcome:
        """Draws of the task's reference, with its own checks."""
        started = time.perf_counter()
        key = jax.random.fold_in(self.rng_key, 10)
        result = reference_draws(self.task, self.dataset, key, self.post.num_draws, quick=True)
        passed, reasons = result.status != "failed", tuple(part for part in [result.message] if part)
        self._note("reference", started, passed, result.message)
        unconstrain = jax.vmap(self.task.unconstrain, (0, None))
        sites = {name: result.sites[name] for name in self.task.sites}
        thetas = self.net.programs.run("unconstrain", unconstrain, sites, self.dataset).outputs
        return _Outcome(np.asarray(thetas), result.sites, passed, reasons)

    # ---------------------------------------------------------------- parts

    def _moved(self, index: int, stretch: int, thetas: np.ndarray, num_moves: int) -> Moved:
        key = jax.random.fold_in(jax.random.fold_in(self.rng_key, index), stretch)
        return self.repairs.move(key, self.padded, thetas, num_moves, self._affine)

    def _generator(self) -> np.random.Generator:
        return np.random.default_rng(np.ravel(jax.random.key_data(jax.random.fold_in(self.rng_key, 9))))

    @property
    def _affine(self) -> Affine | None:
        """The base's whitening where it comes from the posterior itself, and components may not be permuted."""
        is_found = self.net.network.config.model.base in LIKELIHOOD_BASES and not self.repairs.has_labels
        return self.net.base_of(self.padded) if is_found else None

    def _judged(self, start: np.ndarray, middle: Moved, end: Moved) -> _Outcome:
        at_start = self.repairs.log_joint(self.padded, start)
        triples = ((start, at_start), (middle.thetas, middle.log_joint), (end.thetas, end.log_joint))
        features = [self.repairs.features(thetas, height, like=end.thetas) for thetas, height in triples]
        found = stationarity(*features)
        reasons = []
        if found.is_drifting:
            reasons.append(f"draws still drift under further moves ({found.late_z:.1f} standard errors)")
        if self.has_far_modes:
            reasons += self._compared_with_probe(features[2], end.thetas)
        elif not found.left <= MAX_LEFT:
            reasons.append(
                f"chains remember their starts (correlation {found.memory:.2f}): a bias of up to {found.left:.2f} "
                f"standard deviations may be left (limit {MAX_LEFT})"
            )
        measured = f"drift {found.drift:.2f}, memory {found.memory:.2f}, bias left {found.left:.3f}"
        return _Outcome(end.thetas, end.sites, not reasons, tuple(reasons), measured)

    def _compared_with_probe(self, features: np.ndarray, thetas: np.ndarray) -> list[str]:
        if self._probe is None:
            started = time.perf_counter()
            self._probe, reached = self.repairs.probe(jax.random.fold_in(self.rng_key, 7), self.padded)
            self._note("probe", started, reached, "" if reached else "the run did not reach the posterior")
            if not reached:
                self._probe = np.full_like(self._probe, np.nan)
        if not np.isfinite(self._probe).all():
            return ["an independent probe of the modes did not come to its end"]
        height = self.repairs.log_joint(self.padded, self._probe)
        probed = self.repairs.features(self._probe, height, like=thetas)
        distance = mean_distance(features, probed)
        self.path[-1] = replace(self.path[-1], remark=f"distance {distance:.2f}")
        if distance <= MAX_PROBE_DISTANCE:
            return []
        return [
            f"an independent probe of the modes disagrees: means differ by {distance:.2f} standard deviations "
            f"(limit {MAX_PROBE_DISTANCE})"
        ]

    def _note(self, name: str, started: float, passed: bool, remark: str = "") -> None:
        self.path.append(Step(name, time.perf_counter() - started, passed, remark))

    def _finish(self, verdict: str, outcome: _Outcome) -> Posterior:
        raw = self.raw or Certificate(verdict, ())
        remarks = [*outcome.reasons, *self.post.notes, *([UNSEEN] if self.has_far_modes else [])]
        certificate = replace(raw, verdict=verdict, reasons=tuple(remarks), path=tuple(self.path))
        info = {**self.post.info, "refined_by": " > ".join(step.name for step in self.path)}
        return replace(
            self.post,
            theta=outcome.thetas,
            sites={name: outcome.sites[name] for name in self.task.outputs},
            info=info,
            densities=None,
            again=None,
            known_certificate=certificate,
        )
