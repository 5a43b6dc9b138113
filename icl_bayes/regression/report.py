"""A regression on one HTML page."""

from __future__ import annotations

import base64
import html
import io
from pathlib import Path
from typing import TYPE_CHECKING

from icl_bayes.provenance import collect_provenance
from icl_bayes.tasks.regression import FAMILIES

if TYPE_CHECKING:
    import matplotlib.figure

    from icl_bayes.regression.result import RegressionPosterior

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }}
table {{ border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }}
th, td {{ padding: .3rem .7rem; text-align: right; border-bottom: 1px solid #eee; }}
th:first-child, td:last-child {{ text-align: left; }}
img {{ max-width: 100%; }} .note {{ color: #666; font-size: .9rem; }}
.verdict {{ font-weight: 600; }} .rejected {{ color: #b03a00; }}
</style></head><body>
<h1>{title}</h1>
<p>{about}</p>
<h2>Estimates</h2>
{estimates}
<p class="note">Means, standard deviations and quantiles of {num_draws} joint posterior draws; the last column is the
prior that was used.</p>
<figure>{figure}</figure>
<h2>Can these draws be trusted?</h2>
<p>Verdict: <span class="verdict {verdict}">{verdict}</span>, draws by {engine}. {meaning}</p>
{path}
<p class="note">{reasons}</p>
<p class="note">What no such check can see: whether the model is right. The figure shows responses against what the
model expects of them.</p>
<p class="note">{provenance}</p>
</body></html>
"""
_MEANINGS = {
    "good": "The importance weights of the draws say that they are close to the posterior as they are.",
    "resampled": "Draws were chosen by their importance weights, which can be relied on, and moved apart.",
    "polished": "Draws were moved by Hamiltonian Monte Carlo until they neither drifted nor remembered their start.",
    "refined": "Draws were moved for longer, or are those of long NUTS chains that passed their own checks.",
    "rejected": "No check was passed: do not use these draws. The reasons are below.",
    "unchecked": "There were too few draws for a verdict.",
}


def write_report(model: RegressionPosterior, path: Path) -> None:
    """Write the page."""
    path.write_text(report_html(model), encoding="utf-8")


def report_html(model: RegressionPosterior) -> str:
    """Estimates with priors, figure, certificate, provenance."""
    certificate, family = model.certificate, FAMILIES[model.family]
    dataset = model.posterior.dataset
    counted = int(dataset["weight"].sum())
    about = (
        f"{model.family} response {model.design.response!r} with {family.link} link; {counted} rows, "
        f"{len(model.design.columns)} columns."
    )
    if model.design.levels is not None:
        about += f" The response is 1 for {model.design.levels[1]!r} and 0 for {model.design.levels[0]!r}."
    steps = "".join(
        f"<li>{html.escape(step.name)}: {'passed' if step.passed else 'not enough'} "
        f"({html.escape(step.remark)}; {step.seconds:.2f} s)</li>"
        for step in certificate.path
    )
    provenance = collect_provenance()
    return _PAGE.format(
        title=html.escape(model.formula),
        about=html.escape(about),
        estimates=model.summary().to_html(float_format=lambda value: f"{value:.4g}", border=0),
        num_draws=model.posterior.num_draws,
        figure=_embedded(model.plot()),
        verdict=certificate.verdict,
        engine=html.escape(model.engine),
        meaning=_MEANINGS[certificate.verdict],
        path=f"<ol>{steps}</ol>" if steps else "",
        reasons=html.escape("; ".join(certificate.reasons)),
        provenance=html.escape(", ".join(f"{name} {value}" for name, value in vars(provenance).items() if value)),
    )


def _embedded(figure: matplotlib.figure.Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    encoded = base64.b64encode(buffer.getvalue()).decode()
    return f'<img alt="coefficients and fit" src="data:image/png;base64,{encoded}">'
