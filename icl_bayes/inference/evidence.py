"""Models compared by how probable they make the data."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from icl_bayes.inference.certificate import MAX_KHAT

if TYPE_CHECKING:
    import pandas as pd

    from icl_bayes.inference.posterior import Posterior


def compare_evidence(
    posteriors: Mapping[str, Posterior], prior_weights: Mapping[str, float] | None = None
) -> pd.DataFrame:
    """Log evidence, Bayes factors and posterior probabilities of models for the same responses, the best first.

    Args:
        posteriors: by name, as networks made them: evidence comes from the certificate of raw draws.
        prior_weights: prior probabilities up to a factor; equal ones if ``None``.

    Returns:
        ``log_evidence`` with its standard ``error`` in nats, ``log_bayes_factor`` against the best with
        ``bayes_factor_error``, ``probability``, ``verdict`` and ``khat``, a line per model.

    Raises:
        ValueError: for fewer than two models, responses that differ, or a posterior without evidence.
    """
    import pandas as pd

    if len(posteriors) < 2:
        raise ValueError(f"At least two models are compared; received {list(posteriors)}.")
    weights = dict.fromkeys(posteriors, 1.0) if prior_weights is None else dict(prior_weights)
    if set(weights) != set(posteriors) or min(weights.values()) <= 0.0:
        raise ValueError(
            f"prior_weights needs a positive number for each of {sorted(posteriors)}; received {prior_weights}."
        )
    (first, reference), *others = ((name, _responses(post)) for name, post in posteriors.items())
    for name, responses in others:
        same = set(responses) == set(reference) and all(
            np.array_equal(responses[key], reference[key]) for key in reference
        )
        if not same:
            raise ValueError(
                f"Models {first!r} and {name!r} were given different responses; evidence compares models of the same "
                "data."
            )
    lines = {}
    for name, post in posteriors.items():
        certificate = post.certificate()
        if not np.isfinite(certificate.log_evidence):
            raise ValueError(
                f"The posterior of {name!r} has no evidence ({certificate}). Evidence is that of draws as a network "
                "makes them: compare before polish, and refine only where densities were computed (with_log_prob=True)."
            )
        if not certificate.khat < MAX_KHAT:
            warnings.warn(
                f"The evidence of {name!r} can't be relied on: k-hat is {certificate.khat:.2f} (limit {MAX_KHAT}).",
                UserWarning,
                stacklevel=2,
            )
        lines[name] = {
            "log_evidence": certificate.log_evidence,
            "error": certificate.log_evidence_error,
            "verdict": certificate.verdict,
            "khat": certificate.khat,
        }
    table = pd.DataFrame.from_dict(lines, orient="index").sort_values("log_evidence", ascending=False)
    table["log_bayes_factor"] = table["log_evidence"] - table["log_evidence"].iloc[0]
    errors = np.hypot(table["error"].to_numpy(), table["error"].iloc[0])
    errors[0] = 0.0  # the best beside itself
    table["bayes_factor_error"] = errors
    heights = table["log_bayes_factor"] + np.log([weights[name] for name in table.index])
    shares = np.exp(heights - heights.max())
    table["probability"] = shares / shares.sum()
    columns = ["log_evidence", "error", "log_bayes_factor", "bayes_factor_error", "probability", "verdict", "khat"]
    return table.reindex(columns=columns)


def _responses(post: Posterior) -> dict[str, np.ndarray]:
    mask = np.asarray(post.dataset.row_mask, bool)
    return {name: np.asarray(post.dataset[name])[mask] for name in post.task.responses}
