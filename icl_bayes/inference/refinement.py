"""From a network's draws to draws that can be trusted: repairs in order of their cost, each checked before it counts.

Raw draws are returned as they are where their importance weights say that they are close enough. Otherwise they are
resampled by these weights, where k-hat and the effective number allow it, from several times as many draws where these
are cheap, else with moves that part what was chosen twice; or moved (*polished*) until
chains neither drift nor remember where they started, if need be for longer; in the end the task's reference takes their
place, which owes nothing to the network. Where modes may lie far apart, densities are dear and neither weights nor
chains can vouch for the masses of modes, so that moves come first and an independent probe, a rough run of tempered
SMC, has to agree.

Nothing can get worse unnoticed: moves and references leave the posterior invariant, resampling happens only where the
weights can be relied on, and what fails its check is not returned as better than it is.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple, Protocol

import jax
import numpy as np

from icl_bayes.baselines.programs import ProgramCache
from icl_bayes.baselines.reference import reference_draws
from icl_bayes.baselines.smc import supports_smc
from icl_bayes.evaluation.importance_weights import MIN_DRAWS, WeightReport, report_weights
from icl_bayes.evaluation.stationarity import mean_distance, stationarity
from icl_bayes.flow import Affine, GaussianModes
from icl_bayes.inference.certificate import FATAL, MAX_KHAT, UNSEEN, Certificate, Step, certify, unfamiliar
from icl_bayes.inference.repairs import Moved, Repairs, resample
from icl_bayes.types import Array, Dataset

if TYPE_CHECKING:
    from icl_bayes.inference.posterior import Posterior

FIRST_MOVES, LONGER_MOVES = 5, (20, 80)
"""Moves of each of two stretches, and of those that follow if they were too few."""
MAX_LEFT, MAX_LEFT_BETWEEN_MODES = 0.05, 0.15
"""Bias that may be left in any feature, in standard deviations; more where a probe confirms the masses of modes."""
OUTLIER = 0.02
"""Weight, relative to the median one, below which a draw is far out: fifty times as often drawn as it should be."""
MIN_EFFICIENCY = 0.1
"""Effective share of the draws that resampling takes."""
POOLS, MAX_TWICE = (2, 3, 4, 6, 8, 12, 16), 0.01
"""Times as many draws, where they are cheap, from which some are chosen without moves, if so few are chosen twice."""
MOVES_APART = (2, 4, 8)
"""Moves of each of two stretches after resampling, by which draws that came twice part, and of further ones..."""
MAX_TOGETHER = 0.1
"""...while the correlation with the start, times the share of draws lost to resampling, is above this."""
PARTICLES = (500, 2000, 16000)
"""Of each of the four runs of tempered SMC, where that is the reference."""
MAX_PROBE_DISTANCE = 0.5
"""Of means of label-free features from the probe's, in standard deviations, by which a probe may differ by chance."""


class _Outcome(NamedTuple):
    """Draws, whether they passed, why not, what was measured.

    Attributes:
        is_contradicted: whether a probe found other masses of modes.
        memory: correlation with where moves began.
    """

    thetas: np.ndarray
    sites: dict[str, np.ndarray]
    passed: bool
    reasons: tuple[str, ...]
    measured: str = ""
    is_contradicted: bool = False
    memory: float = 1.0


class Source(Protocol):
    """Where raw draws come from, as far as repairs need it.

    Attributes:
        programs: compiled programs of repairs.
    """

    @property
    def programs(self) -> ProgramCache: ...

    def padded_length(self, num_rows: int) -> int:
        """The length to which rows are padded."""
        ...

    def whitening(self, padded: Dataset) -> Affine | GaussianModes | None:
        """Gaussians that were found from the posterior, not from draws; ``None`` if there are none."""
        ...

    def more(self, rng_key: Array, padded: Dataset, num_draws: int, times: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Further draws ``(times * num_draws, dim)`` with their log weights; ``None`` where moves cost less."""
        ...


def refine(source: Source, post: Posterior, rng_key: Array, target: float) -> Posterior:
    """See :meth:`icl_bayes.Posterior.refine`."""
    if not 0.0 <= target <= 1.0:
        raise ValueError(f"target is a total variation, between 0 and 1; received {target}.")
    if post.num_draws < MIN_DRAWS or post.task.nuisance:
        return replace(post, known_certificate=post.certificate())
    return _Refinement(source, post, rng_key, target).run()


@dataclass
class _Refinement:
    """One posterior on its way.

    Attributes:
        path: what was done, with what it cost and found.
        raw: the certificate of the raw draws, if densities are known.
    """

    source: Source
    post: Posterior
    rng_key: Array
    target: float
    path: list[Step] = field(default_factory=list)
    raw: Certificate | None = None
    _probe: np.ndarray | None = None

    def __post_init__(self) -> None:
        self.task, self.dataset = self.post.task, self.post.dataset
        # Programs are compiled for the length that the source pads to.
        self.padded = self.dataset.pad_rows(self.source.padded_length(self.dataset.padded_rows))
        self.repairs = Repairs(self.task, self.source.programs)
        self.has_far_modes = self.task.has_far_modes or self.task.num_exchangeable > 0
        self.is_fatal = any(mark in note for note in self.post.notes for mark in FATAL)
        self.novelty = self.post.novelty

    def run(self) -> Posterior:
        raw = self._check_raw()
        if raw is not None and raw.verdict == "good" and self._agrees_with_probe():
            return replace(self.post, known_certificate=replace(raw, path=tuple(self.path)))
        if not self.is_fatal:
            found = self._repaired()
            if found is not None:
                return self._finish(*found)
        reference = self._reference()
        return self._finish("refined" if reference.passed else "rejected", reference, is_new=reference.passed)

    def _repaired(self) -> tuple[str, _Outcome] | None:
        """Verdict and draws of the first repair that passes."""
        if not self.has_far_modes:
            resampled = self._resample()
            if resampled is not None and resampled.passed:
                return "resampled", resampled
        start = self._without_outliers()
        moved = self._polish(start)
        if moved.passed:
            return "polished", moved
        moved = self._longer(moved, start)
        if moved.passed:
            return "refined", moved
        if self.has_far_modes:
            resampled = self._resample()
            if resampled is not None and resampled.passed:
                return "resampled", resampled
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
        raw = self.raw = self._certified(log_weights, self.target)
        remark = f"k-hat {raw.khat:.2f}, total variation {raw.total_variation:.3f}"
        self._note("weights", started, raw.verdict == "good", remark)
        return raw

    def _agrees_with_probe(self) -> bool:
        """Of raw draws with good weights, which say nothing of modes that no draw visits."""
        if not self.has_far_modes:
            return True
        self._probe = self._probed()
        thetas = self.post.theta
        features = self.repairs.features(thetas, self.repairs.log_joint(self.padded, thetas), like=thetas)
        return self._probe_distance(features, thetas) <= MAX_PROBE_DISTANCE

    def _without_outliers(self) -> np.ndarray:
        """Raw draws, those far out replaced by others, from where moves would bring them back last.

        Only where densities are at hand. The share of such draws is small, and where moves start is free.
        """
        thetas = self.post.theta
        if self.post.densities is None:
            return thetas
        log_weights = np.asarray(self.post.densities.log_weight, np.float64)
        relative = np.exp(log_weights - np.max(log_weights[np.isfinite(log_weights)], initial=-np.inf))
        relative = np.where(np.isfinite(relative), relative, 0.0)
        is_outlier = ~(relative >= OUTLIER * np.median(relative))
        if not is_outlier.any() or is_outlier.all():
            return thetas
        generator = np.random.default_rng(np.ravel(jax.random.key_data(jax.random.fold_in(self.rng_key, 9))))
        others = generator.choice(np.flatnonzero(~is_outlier), size=int(is_outlier.sum()))
        found = np.array(thetas)
        found[is_outlier] = thetas[others]
        return found

    def _polish(self, thetas: np.ndarray) -> _Outcome:
        """Two short stretches of moves, checked."""
        if self.has_far_modes and self._probe is None:
            self._probe = self._probed()
        started = time.perf_counter()
        outcome = self._judged(self._moved(1, thetas, FIRST_MOVES))
        self._note("polish", started, outcome.passed, outcome.measured)
        return outcome

    def _longer(self, outcome: _Outcome, start: np.ndarray) -> _Outcome:
        """Further stretches, each longer than the last, until chains pass.

        Moves that a probe contradicts are not continued: they do not cross from mode to mode.
        """
        for index, num_moves in enumerate(LONGER_MOVES, 2):
            if outcome.is_contradicted:
                break
            started = time.perf_counter()
            outcome = self._judged(self._moved(index, outcome.thetas, num_moves), start)
            self._note(f"{2 * num_moves} more moves", started, outcome.passed, outcome.measured)
            if outcome.passed:
                break
        return outcome

    def _resample(self) -> _Outcome | None:
        """Draws chosen by their importance weights, then moved apart; ``None`` where weights can't be relied on."""
        started = time.perf_counter()
        try:
            report = report_weights(self.post.log_weights)
        except ValueError:  # the solver has no densities, or draws were moved
            return None
        if self.raw is None:
            self.raw = self._certified(self.post.log_weights, self.target)
        efficiency = report.ess / self.post.num_draws
        if not report.khat < MAX_KHAT or efficiency < MIN_EFFICIENCY:
            self._note("resample", started, False, f"k-hat {report.khat:.2f}, efficiency {efficiency:.2f}")
            return None
        generator = np.random.default_rng(np.ravel(jax.random.key_data(jax.random.fold_in(self.rng_key, 8))))
        of_more = self._resample_of_more(generator, report)
        if of_more is not None:
            self._note("resample", started, True, of_more.measured)
            return of_more
        chosen = self.post.theta[resample(generator, report.log_weights, self.post.num_draws)]
        thetas = chosen
        for index, num_moves in enumerate(MOVES_APART, 20):
            outcome = self._judged(self._moved(index, thetas, num_moves), chosen, is_weighted=True)
            thetas = outcome.thetas
            if outcome.memory * (1.0 - efficiency) <= MAX_TOGETHER:
                break
        self._note("resample", started, outcome.passed, f"efficiency {efficiency:.2f}, {outcome.measured}")
        return outcome

    def _resample_of_more(self, generator: np.random.Generator, first: WeightReport) -> _Outcome | None:
        """Draws chosen from several times as many, so that hardly any is chosen twice; ``None`` if that fails.

        Of draws with relative weights w, chosen from k times as many, the share E[max(w - k, 0)] is chosen again.
        """
        num = self.post.num_draws
        relative = num * np.exp(first.log_weights)
        enough = [pool for pool in POOLS if np.mean(np.maximum(relative - pool, 0.0)) <= MAX_TWICE / 2]
        key = jax.random.fold_in(self.rng_key, 11)
        more = self.source.more(key, self.padded, num, enough[0] - 1) if enough else None
        if more is None:
            return None
        thetas = np.concatenate([self.post.theta, more[0]])
        report = report_weights(np.concatenate([self.post.log_weights, more[1]]))
        chosen = resample(generator, report.log_weights, num)
        twice = 1.0 - len(np.unique(chosen)) / num
        if not (report.khat < MAX_KHAT and twice <= MAX_TWICE):
            return None
        remark = f"of {len(thetas)} draws, k-hat {report.khat:.2f}, chosen twice {twice:.1%}"
        return _Outcome(thetas[chosen], self.repairs.sites(self.padded, thetas[chosen]), True, (), remark)

    def _reference(self) -> _Outcome:
        """Draws of the task's reference, with its own checks; of tempered SMC with more particles until runs agree."""
        efforts = PARTICLES if supports_smc(self.task) else PARTICLES[1:2]
        for num_particles in efforts:
            started = time.perf_counter()
            key, num = jax.random.fold_in(self.rng_key, 10), self.post.num_draws
            enough = max(num_particles, -(-num // 2))  # of which four runs are made
            result = reference_draws(self.task, self.dataset, key, num, quick=True, num_particles=enough)
            passed, reasons = result.status != "failed", tuple(part for part in [result.message] if part)
            self._note("reference", started, passed, result.message)
            if passed:
                break
        unconstrain = jax.vmap(self.task.unconstrain, (0, None))
        sites = {name: result.sites[name] for name in self.task.sites}
        thetas = self.source.programs.run("unconstrain", unconstrain, sites, self.dataset).outputs
        return _Outcome(np.asarray(thetas), result.sites, passed, reasons)

    # ---------------------------------------------------------------- parts

    def _certified(self, log_weights: np.ndarray, max_total_variation: float) -> Certificate:
        return certify(
            log_weights,
            self.post.notes,
            has_far_modes=self.has_far_modes,
            max_total_variation=max_total_variation,
            novelty=self.novelty,
        )

    def _moved(self, index: int, thetas: np.ndarray, num_moves: int) -> Moved:
        key = jax.random.fold_in(self.rng_key, index)
        return self.repairs.move(key, self.padded, thetas, num_moves, self._base)

    @cached_property
    def _base(self) -> Affine | GaussianModes | None:
        """The base where it comes from the posterior itself; a single Gaussian not if components may be permuted."""
        base = self.source.whitening(self.padded)
        return None if self.repairs.has_labels and not isinstance(base, GaussianModes) else base

    def _judged(self, moved: Moved, start: np.ndarray | None = None, *, is_weighted: bool = False) -> _Outcome:
        """Whether moves led anywhere that counts.

        Args:
            start: ``(num, dim)``, where chains began, if before these moves.
            is_weighted: whether they began at draws chosen by weight, which may be remembered.
        """
        states, heights, end = list(moved.thetas), list(moved.log_joint), moved.thetas[-1]
        if start is not None:
            states[0], heights[0] = start, self.repairs.log_joint(self.padded, start)
        pairs = zip(states, heights, strict=True)
        # Whitened by all alike: draws that set the scales themselves have smaller squares than others of their law.
        like = np.concatenate(states)
        features = [self.repairs.features(thetas, height, like=like) for thetas, height in pairs]
        found = stationarity(*features)
        reasons = []
        if found.is_drifting:
            reasons.append(f"draws still drift under further moves ({found.late_z:.1f} standard errors)")
        measured = f"drift {found.drift:.2f}, memory {found.memory:.2f}, bias left {found.left:.3f}"
        is_contradicted = False
        if self.has_far_modes:
            distance = self._probe_distance(features[2], end)
            measured += f", distance from the probe {distance:.2f}"
            is_contradicted = not distance <= MAX_PROBE_DISTANCE
            if is_contradicted:
                reasons.append(
                    f"an independent probe of the modes disagrees: means differ by {distance:.2f} standard deviations "
                    f"(limit {MAX_PROBE_DISTANCE})"
                )
        max_left = MAX_LEFT_BETWEEN_MODES if self.has_far_modes else MAX_LEFT
        if not is_weighted and not found.left <= max_left:
            reasons.append(
                f"chains remember their starts (correlation {found.memory:.2f}): a bias of up to {found.left:.2f} "
                f"standard deviations may be left (limit {max_left})"
            )
        return _Outcome(end, moved.sites, not reasons, tuple(reasons), measured, is_contradicted, found.memory)

    def _probed(self) -> np.ndarray:
        """Draws of the probe, NaN if its run did not come to its end."""
        started = time.perf_counter()
        thetas, reached = self.repairs.probe(jax.random.fold_in(self.rng_key, 7), self.padded)
        self._note("probe", started, reached, "" if reached else "the run did not reach the posterior")
        return thetas if reached else np.full_like(thetas, np.nan)

    def _probe_distance(self, features: np.ndarray, thetas: np.ndarray) -> float:
        """Of means, in standard deviations; infinite without a probe."""
        assert self._probe is not None
        if not np.isfinite(self._probe).all():
            return np.inf
        height = self.repairs.log_joint(self.padded, self._probe)
        return mean_distance(features, self.repairs.features(self._probe, height, like=thetas))

    def _note(self, name: str, started: float, passed: bool, remark: str = "") -> None:
        self.path.append(Step(name, time.perf_counter() - started, passed, remark))

    def _finish(self, verdict: str, outcome: _Outcome, *, is_new: bool = False) -> Posterior:
        """The posterior with other draws; new ones owe nothing to the base, whose faults are then no reason."""
        raw = self.raw or Certificate(verdict, (), novelty=self.novelty)
        notes = [note for note in self.post.notes if not (is_new and any(mark in note for mark in FATAL))]
        remarks = [*outcome.reasons, *notes, *unfamiliar(self.novelty), *([UNSEEN] if self.has_far_modes else [])]
        certificate = replace(raw, verdict=verdict, reasons=tuple(remarks), path=tuple(self.path))
        info = {**self.post.info, "refined_by": " > ".join(step.name for step in self.path)}
        return replace(
            self.post,
            theta=outcome.thetas,
            sites={name: outcome.sites[name] for name in self.task.outputs},
            info=info,
            densities=None,
            known_certificate=certificate,
        )
