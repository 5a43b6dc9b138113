"""The numbers of the paper, to be shown beside ours.

They were measured by another protocol: against references that are partly wrong, with a
"W2" that is the Wasserstein-1 distance, a "Laplace" that is a point mass at the mode, and a
spread over data sets printed as if it were a standard error. Wherever they appear they stand
under `HEADING`.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import resources

HEADING = "published (other, partly faulty reference)"

NOTES = (
    'The published "W2" is the Wasserstein-1 distance, so it stands beside our W1.',
    'The published "Laplace" is a point mass at the mode, not a Gaussian.',
    "Published means cover 50 synthetic (min-max scaled covariates) and 17 real data sets per scenario.",
)

PAPER_SIZES = {
    **{("glm", scenario): (50, 5) for scenario in "1234567"},
    **{("fa", scenario): (50, 3) for scenario in "12"},
    **{("fa", scenario): (25, 5) for scenario in "356"},
    ("fa", "4"): (25, 15),
    ("gmm", "1"): (50, 1),
    ("gmm", "2"): (25, 3),
    ("gmm", "3"): (50, 5),
    ("gmm", "4"): (50, 3),
}
"""Rows and columns of the data sets behind the published scores; those of other sizes have none beside them."""

# Where a number is printed in several tables, these come first: the full results per scenario,
# then the averages over scenarios, then the running times.
_PREFERRED_TABLES = ("12", "13", "14", "1", "3", "4", "8")

_METRICS = {"c2st": "c2st", "mmd": "mmd", "w1": "w2", "seconds_run": "runtime_s"}

_MODELS = {
    "icl": "icl",
    "laplace": "laplace",
    "map": "laplace",
    "nuts": "hmc",
    "hmc": "hmc",
    "vi_diagonal": "vi_diagonal",
    "vi_full": "vi_full",
    "vi_structured": "vi_structured",
    "vi_iaf": "vi_iaf",
    "sgld": "sgld",
    "tabpfn": "tabpfn",
}


@dataclass(frozen=True)
class PublishedValue:
    """One printed number: mean and standard deviation over data sets (NaN where not printed)."""

    table: str
    family: str
    scenario: str
    variant: str
    model: str
    split: str
    metric: str
    mean: float
    sd: float


@cache
def load_published() -> tuple[PublishedValue, ...]:
    """Every number of the paper's tables, in their order."""
    text = resources.files("icl_bayes.benchmark").joinpath("data/published.csv").read_text(encoding="utf-8")
    return tuple(
        PublishedValue(
            **{**row, "mean": float(row["mean"]), "sd": float(row["sd"]) if row["sd"] else math.nan}  # type: ignore[arg-type]
        )
        for row in csv.DictReader(text.splitlines())
    )


@cache
def _index() -> dict[tuple[str, ...], tuple[PublishedValue, ...]]:
    found: dict[tuple[str, ...], list[PublishedValue]] = {}
    for value in load_published():
        key = (value.family, value.scenario, value.model, value.split, value.metric, value.variant)
        found.setdefault(key, []).append(value)
    order = {table: rank for rank, table in enumerate(_PREFERRED_TABLES)}
    return {
        key: tuple(sorted(values, key=lambda value: order.get(value.table, len(order))))
        for key, values in found.items()
    }


@cache
def choices(field: str) -> tuple[str, ...]:
    """The values that a field of `PublishedValue` takes, e.g. ``choices("model")``."""
    return tuple(dict.fromkeys(getattr(value, field) for value in load_published()))


def lookup(
    family: str, scenario: str, model: str, split: str, metric: str, *, variant: str = "", table: str | None = None
) -> PublishedValue | None:
    """One published number, or ``None`` where the paper prints none.

    Args:
        family: ``glm``, ``fa`` or ``gmm``.
        scenario: ``"1"`` to ``"7"``, or ``"all"`` for printed averages.
        model: the paper's method, e.g. ``icl``, ``laplace``, ``vi_full``, ``hmc``.
        split: ``synthetic``, ``real`` or ``all``.
        metric: the paper's name, e.g. ``c2st``, ``mmd``, ``w2``, ``runtime_s``.
        variant: setting within an ablation, e.g. ``K=20``; empty for the main results.
        table: only numbers printed in that table; by default the main tables come first.

    Raises:
        ValueError: if a name occurs nowhere in the paper's tables, listing those that do.
    """
    asked = {"family": family, "scenario": str(scenario), "model": model, "split": split, "metric": metric}
    for field, value in {**asked, "variant": variant}.items():
        if value not in choices(field):
            raise ValueError(f"No published {field} is called {value!r}; choices: {', '.join(choices(field))}.")
    values = _index().get((*asked.values(), variant), ())
    return next((value for value in values if table is None or value.table == table), None)


def published_model(method: str, variant: str = "") -> str | None:
    """The paper's name of one of our methods (``vi`` with variant ``full`` is ``vi_full``), if it has one."""
    return _MODELS.get(method) or _MODELS.get(f"{method}_{variant}")


def published_metric(metric: str) -> str | None:
    """The paper's name of what one of our metrics measures: our ``w1`` is its ``w2``."""
    return _METRICS.get(metric)


def beside(
    family: str, scenario: str, split: str, method: str, variant: str, metric: str, size: tuple[int, int] = (0, 0)
) -> float | None:
    """The published mean to show beside a score of ours, in our names; ``None`` where there is none.

    Args:
        size: rows and columns of our data sets, zero where several sizes are averaged over or of no account.
    """
    sizes = PAPER_SIZES.get((family, scenario))
    if sizes is not None and any(0 < ours != theirs for ours, theirs in zip(size, sizes, strict=True)):
        return None
    model, name = published_model(method, variant), published_metric(metric)
    if model is None or name is None or family not in choices("family") or scenario not in choices("scenario"):
        return None
    if name == "runtime_s":  # printed per family only, over both splits
        scenario, split = "all", "all"
    if split not in choices("split"):
        return None
    value = lookup(family, scenario, model, split, name)
    return None if value is None else value.mean


def mean_beside(
    family: str,
    scenarios: Iterable[str],
    split: str,
    method: str,
    variant: str,
    metric: str,
    size: tuple[int, int] = (0, 0),
) -> float | None:
    """Mean of `beside` over scenarios; ``None`` unless every one of them is published."""
    values = [beside(family, scenario, split, method, variant, metric, size) for scenario in scenarios]
    present = [value for value in values if value is not None]
    return sum(present) / len(present) if present and len(present) == len(values) else None
