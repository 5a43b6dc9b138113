"""Whether to trust a posterior, from the densities of its own draws.

Two things no certificate of this kind can see: mass in a mode that no draw visits, and a wrong model. The first is why
a second mode that the search for the base has met counts against a posterior whatever its weights say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from icl_bayes.evaluation.importance_weights import WeightReport, report_weights

VERDICTS = ("good", "polished", "resampled", "refined", "rejected", "unchecked")
MAX_KHAT = 0.7
MAX_TOTAL_VARIATION = 0.1
"""Of draws taken as they are: a classifier then tells them from exact ones with an accuracy of 0.55 at best."""
FATAL = ("second mode", "Gaussian that draws start from")
"""Parts of notes that no good weights can make up for."""
MAX_NOVELTY = 0.99
"""Share of the simulated data sets of training that may be less unusual before it is worth a remark."""
UNSEEN = "mass in modes that no draw visits is not seen by this check"


@dataclass(frozen=True)
class Step:
    """A step of a repair.

    Attributes:
        name: what was done.
        seconds: compilation included, where it was the first of its shape.
        passed: whether what it led to passed its checks.
        remark: what was found, or why not.
    """

    name: str
    seconds: float
    passed: bool
    remark: str = ""


@dataclass(frozen=True)
class Certificate:
    """What is known of the quality of a posterior's draws.

    Attributes:
        verdict: ``good`` (the draws as the network made them), ``polished``, ``resampled`` or ``refined`` (after
            repair), ``rejected``, or ``unchecked`` where no density is known.
        reasons: why, in words; empty for a good one that needs no remark.
        khat, importance_ess, log_evidence, log_evidence_error, var_log_weight, total_variation: of the raw draws, see
            :class:`icl_bayes.evaluation.importance_weights.WeightReport`; NaN where densities are not known.
        novelty: how unusual the data set is for the network, between 0 and 1, see :mod:`icl_bayes.inference.novelty`.
        path: steps of the repair, empty where there was none.
    """

    verdict: str
    reasons: tuple[str, ...]
    khat: float = np.nan
    importance_ess: float = np.nan
    log_evidence: float = np.nan
    log_evidence_error: float = np.nan
    var_log_weight: float = np.nan
    total_variation: float = np.nan
    novelty: float = np.nan
    path: tuple[Step, ...] = ()

    def __str__(self) -> str:
        numbers = (
            f"k-hat {self.khat:.2f}, importance ESS {self.importance_ess:.0f}, log evidence {self.log_evidence:.2f}"
        )
        head = self.verdict if np.isnan(self.khat) else f"{self.verdict} ({numbers} ± {self.log_evidence_error:.2f})"
        return ": ".join(part for part in (head, "; ".join(self.reasons)) if part)

    def as_dict(self) -> dict[str, float | str]:
        """Plain values, for files."""
        named = {name: getattr(self, name) for name in self.__dataclass_fields__}
        path = " > ".join(f"{step.name} ({step.seconds:.3g} s)" for step in self.path)
        return {**named, "reasons": "; ".join(self.reasons), "path": path}


def certify(
    log_weights: np.ndarray,
    notes: Sequence[str] = (),
    *,
    has_far_modes: bool = False,
    max_total_variation: float = MAX_TOTAL_VARIATION,
    novelty: float = np.nan,
) -> Certificate:
    """The certificate of draws as a network made them.

    Args:
        log_weights: ``(num_draws,)``, log joint minus log density.
        notes: what is wrong or unusual about data or base; any of them is a reason, those about a second mode or a base
            that was not found are enough for rejection.
        has_far_modes: whether posteriors of the task may have modes far apart.
        max_total_variation: of good draws.
        novelty: of the data set; a high one is a remark, as the draws themselves are checked.
    """
    report = report_weights(log_weights)
    against = []
    if not report.khat < MAX_KHAT:
        against.append(f"k-hat is {report.khat:.2f} (limit {MAX_KHAT}): some regions are hardly ever drawn from")
    if not report.total_variation <= max_total_variation:
        against.append(
            f"the draws differ from the posterior: estimated total variation {report.total_variation:.2f} "
            f"(limit {max_total_variation:g})"
        )
    fatal = [note for note in notes if any(mark in note for mark in FATAL)]
    verdict = "rejected" if against or fatal else "good"
    remarks = [*against, *notes, *unfamiliar(novelty), *([UNSEEN] if has_far_modes else [])]
    return _certificate(verdict, tuple(remarks), report, novelty)


def unfamiliar(novelty: float) -> list[str]:
    """What is to be said of a data set with this score; nothing if it is not known."""
    if not novelty > MAX_NOVELTY:
        return []
    share = "any" if novelty == 1.0 else f"{novelty:.1%}"
    return [
        f"the data set is more unusual than {share} of those of its size that were simulated as in training: see "
        "whether the model fits it"
    ]


def _certificate(verdict: str, reasons: tuple[str, ...], report: WeightReport, novelty: float) -> Certificate:
    return Certificate(
        verdict,
        reasons,
        khat=report.khat,
        importance_ess=report.ess,
        log_evidence=report.log_evidence,
        log_evidence_error=report.log_evidence_error,
        var_log_weight=report.var_log_weight,
        total_variation=report.total_variation,
        novelty=novelty,
    )
