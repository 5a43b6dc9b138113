"""Calibration of networks over many simulated data sets: simulation, draws, tests, records, plots."""

from __future__ import annotations

import csv
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from icl_bayes.baselines.programs import release_programs
from icl_bayes.baselines.smc import label_free_features
from icl_bayes.benchmark.calibration_plots import calibration_figure
from icl_bayes.benchmark.methods import MethodRegistry
from icl_bayes.benchmark.settings import CalibrationSettings
from icl_bayes.benchmark.suites import simulate_accepted, task_under_test
from icl_bayes.evaluation.calibration import (
    SymmetricDivergence,
    central_coverage,
    fractional_ranks,
    symmetric_divergence,
    tarp_ranks,
    uniformity,
)
from icl_bayes.inference import AmortizedPosterior
from icl_bayes.provenance import collect_provenance
from icl_bayes.tasks import Task
from icl_bayes.types import Dataset

if TYPE_CHECKING:
    from rich.console import Console

RECORDS_NAME = "calibration.csv"
MEASURED = {
    "divergence": "KL(p|q) + KL(q|p)",
    "evidence below": "average log evidence, at least",
    "evidence above": "average log evidence, at most",
}
"""What is measured of raw draws, in words."""
_DRAWS = 2**31 - 1
"""Of the stream of keys that draws are made with; data sets have small numbers."""
AT_ONCE = 64
"""Data sets per compiled call."""


@dataclass(frozen=True)
class CalibrationRecord:
    """One test of one scenario.

    Attributes:
        family, scenario, draws: what is tested; ``draws`` is ``raw``, ``polish@K`` or ``refined``, and ``narrow`` says
            by what factor draws were shrunk about their mean, as a control.
        test: ``ranks``, ``coverage``, ``likelihood``, ``tarp``; or what is measured and not tested (:data:`MEASURED`).
        coordinate: name of a coordinate; empty for tests of all together.
        p_value: of uniformity; NaN for what is measured.
        limit: p-value below which the scenario fails, so that all its tests together fail by chance at the level.
        value, error: what is measured, in nats, with its standard error; of tests the largest difference from uniform.
        num_datasets: tested, or averaged over: those whose truth the flow could be traced back from.
    """

    family: str
    scenario: str
    draws: str
    narrow: float
    test: str
    coordinate: str
    p_value: float
    limit: float
    value: float
    error: float
    num_datasets: int
    num_draws: int
    seed: int
    checkpoint: str
    seconds: float
    hardware: str
    python: str
    jax: str
    commit: str

    @property
    def passed(self) -> bool:
        """Whether nothing was found; what is measured passes always."""
        return not self.p_value < self.limit


@dataclass(frozen=True)
class CalibrationOutcome:
    """What a calibration left behind: its directory, and all records of this run."""

    out: Path
    records: tuple[CalibrationRecord, ...]


def calibrate(settings: CalibrationSettings, console: Console) -> CalibrationOutcome:
    """Test the networks of some scenarios; records of other runs in the same directory stay.

    Raises:
        ValueError: for unknown scenarios, or settings that don't fit together.
        CheckpointError: for a network that can't be loaded.
    """
    registry = MethodRegistry(["icl"], networks=settings.networks)
    tasks = [task_under_test(settings.family, scenario, 0) for scenario in settings.scenarios]
    networks = [registry.of(task)[0] for task in tasks]
    out = Path(settings.out)
    out.mkdir(parents=True, exist_ok=True)
    found: list[CalibrationRecord] = []
    for task, method in zip(tasks, networks, strict=True):
        net = method.sampler.posterior  # type: ignore[attr-defined]
        records, figure = _calibrate_one(settings, task, net)
        found += records
        write_records(out / RECORDS_NAME, records)
        figure.savefig(out / f"{task.name.replace('/', '-')}-{records[0].draws}{settings.suffix}.png", dpi=110)
        _print(console, records)
        release_programs()
    return CalibrationOutcome(out, tuple(found))


def _calibrate_one(
    settings: CalibrationSettings, task: Task, net: AmortizedPosterior
) -> tuple[list[CalibrationRecord], Any]:
    started = time.perf_counter()
    key = jax.random.key(settings.seed)
    pairs, _ = simulate_accepted(task, key, settings.num_datasets, settings.num_rows or task.paper_num_rows)
    draw, draw_key = _drawer(settings, net), jax.random.fold_in(key, _DRAWS)
    truths, draws, heights = [], [], []
    for first in range(0, len(pairs), AT_ONCE):
        chunk = pairs[first : first + AT_ONCE]
        # The last data set stands for those that are missing, so that one program serves all.
        datasets = [dataset for _, dataset in chunk] + [chunk[-1][1]] * (AT_ONCE - len(chunk))
        thetas = draw(jax.random.fold_in(draw_key, first), datasets, len(chunk))
        thetas = [_narrowed(theta, settings.narrow) for theta in thetas]
        heights += [_log_likelihoods(task, *pair, theta) for pair, theta in zip(chunk, thetas, strict=True)]
        draws += [_compared(task, theta) for theta in thetas]
        truths += [_compared(task, np.asarray(theta)[None])[0] for theta, _ in chunk]
    truth, stacked = np.stack(truths), np.stack(draws)
    generator = np.random.default_rng(settings.seed)
    ranks = fractional_ranks(truth, stacked, generator)
    tests = {"ranks": ranks, "coverage": central_coverage(ranks)}
    names = _coordinate_names(task, truth.shape[1])
    results = [(kind, name, uniformity(values[:, i])) for kind, values in tests.items() for i, name in enumerate(names)]
    height = np.stack(heights)
    of_height = fractional_ranks(height[:, :1], height[:, 1:, None], generator)[:, 0]
    results.append(("likelihood", "", uniformity(of_height)))
    results.append(("tarp", "", uniformity(tarp_ranks(truth, stacked, generator))))
    limit = settings.level / len(results)
    shared = {
        "family": settings.family,
        "scenario": task.name.partition("/")[2],
        "draws": settings.draws_label,
        "narrow": settings.narrow,
        "limit": limit,
        "num_draws": settings.num_draws,
        "seed": settings.seed,
        "checkpoint": net.checkpoint.identity,
        **asdict(collect_provenance()),
    }
    records = [
        CalibrationRecord(
            **shared,
            test=kind,
            coordinate=name,
            p_value=one.p_value,
            value=float(np.abs(one.difference).max()),
            error=float("nan"),
            num_datasets=len(truth),
            seconds=time.perf_counter() - started,
        )
        for kind, name, one in results
    ]
    if settings.divergence_datasets:
        started = time.perf_counter()
        found = _divergence(settings, net, pairs[: settings.divergence_datasets])
        values = [
            (found.value, found.error),
            (found.log_evidence_below, found.error_below),
            (found.log_evidence_above, found.error_above),
        ]
        records += [
            CalibrationRecord(
                **shared,
                test=name,
                coordinate="",
                p_value=float("nan"),
                value=value,
                error=error,
                num_datasets=found.num_datasets,
                seconds=time.perf_counter() - started,
            )
            for name, (value, error) in zip(MEASURED, values, strict=True)
        ]
    figure = calibration_figure(results, len(truth), limit, title=f"{task.name}, {settings.draws_label}")
    return records, figure


Drawer = Callable[[jax.Array, list[Dataset], int], list[np.ndarray]]


def _drawer(settings: CalibrationSettings, net: AmortizedPosterior) -> Drawer:
    """Draws ``(num_draws, dim)`` of the first few of a list of data sets."""

    def draw(rng_key: jax.Array, datasets: list[Dataset], count: int) -> list[np.ndarray]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of simulated data sets few are worth a word each
            posts = net.sample_batch(rng_key, datasets, settings.num_draws, polish=settings.polish)[:count]
            if settings.refine:
                posts = [post.refine(jax.random.fold_in(rng_key, 10_000 + i)) for i, post in enumerate(posts)]
        return [post.theta for post in posts]

    return draw


@lru_cache(maxsize=4)
def _likelihood_program(task: Task) -> Callable[[np.ndarray, Dataset], jax.Array]:
    return jax.jit(jax.vmap(task.log_likelihood, (0, None)))


def _log_likelihoods(task: Task, truth: np.ndarray, dataset: Dataset, draws: np.ndarray) -> np.ndarray:
    """Of the truth, then of draws, ``(1 + num_draws,)``: what depends on the data finds more than coordinates do.

    Ranks of functions of theta alone are uniform for the prior in place of the posterior, too; those of the likelihood
    are not (Modrak et al., 2023).
    """
    program = _likelihood_program(task)
    return np.asarray(program(np.concatenate([np.asarray(truth)[None], draws]).astype(np.float32), dataset))


def _narrowed(theta: np.ndarray, factor: float) -> np.ndarray:
    """Draws shrunk about their mean: what a test of calibration has to notice."""
    center = theta.mean(axis=0)
    return theta if factor == 1.0 else center + factor * (theta - center)


def _compared(task: Task, theta: np.ndarray) -> np.ndarray:
    """What is ranked, ``(num_draws, k)``: coordinates; of mixtures functions that no permutation changes.

    Ranks of a coordinate are those of the site it stands for, as the maps between them increase.
    """
    if not task.num_exchangeable:
        return theta
    blocks = {
        name: theta[:, site.start : site.start + site.size].reshape(len(theta), task.num_exchangeable, -1)
        for name, site in task.sites.items()
    }
    return label_free_features(task, blocks)


def _coordinate_names(task: Task, num: int) -> list[str]:
    names = [] if task.num_exchangeable else task.site_names("target")
    return names if len(names) == num else [f"feature {i}" for i in range(num)]


def _divergence(
    settings: CalibrationSettings, net: AmortizedPosterior, pairs: list[tuple[np.ndarray, Dataset]]
) -> SymmetricDivergence:
    """Of raw draws; a truth that the flow can't be traced back from leaves its data set out, with a warning.

    Raises:
        ValueError: if fewer than two data sets are left.
    """
    task = net.task

    def at_theta(theta: jax.Array, dataset: Dataset) -> tuple[Any, jax.Array]:
        return task.constrain(theta, dataset), task.log_joint(theta, dataset) - task.log_volume(theta, dataset)

    program = jax.jit(at_theta)
    rng_key = jax.random.fold_in(jax.random.key(settings.seed), _DRAWS - 1)
    truths, draws = [], []
    for index, (theta, dataset) in enumerate(pairs):
        prepared = net.prepare(dataset)
        sites, log_joint = jax.device_get(program(theta, prepared))
        values = {name: np.asarray(value)[None] for name, value in sites.items()}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            density = float(net.log_prob(prepared, values)[0])
            post = net.sample(jax.random.fold_in(rng_key, index), prepared, settings.num_draws, with_log_prob=True)
        if np.isfinite(density):
            truths.append(float(log_joint) - density)
            draws.append(post.log_weights)
    if len(truths) < 2:
        raise ValueError(
            f"The flow of {task.name!r} could be traced back from the truth of {len(truths)} of {len(pairs)} data "
            "sets; the divergence needs two at least. The network hardly ever draws where it should."
        )
    if len(truths) < len(pairs):
        warnings.warn(
            f"{task.name}: the flow could not be traced back from the truth of {len(pairs) - len(truths)} of "
            f"{len(pairs)} data sets. They are left out, which makes the divergence of the others look small.",
            UserWarning,
            stacklevel=2,
        )
    return symmetric_divergence(np.asarray(truths), np.stack(draws))


def write_records(path: Path, records: list[CalibrationRecord]) -> None:
    """Add records to a CSV file, in which they replace those of the same scenario and draws."""

    def identity(row: dict[str, str]) -> tuple[str, ...]:
        return row["family"], row["scenario"], row["draws"], f"{float(row['narrow']):g}"

    rows = [{name: str(value) for name, value in asdict(record).items()} for record in records]
    new, kept = {identity(row) for row in rows}, []
    if path.exists():
        with path.open(newline="") as file:
            kept = [row for row in csv.DictReader(file) if identity(row) not in new]
    partial = path.with_suffix(".partial")
    with partial.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows([*kept, *rows])
    partial.replace(path)


def _print(console: Console, records: list[CalibrationRecord]) -> None:
    from rich.table import Table

    first = records[0]
    control = "" if first.narrow == 1.0 else f", shrunk to {first.narrow:g}"
    title = f"{first.family}/{first.scenario}, {first.draws} draws{control}: {first.num_datasets} data sets"
    table = Table(title=title, title_justify="left")
    for name in ("test", "coordinate", "largest difference", "p", f"passed (p >= {first.limit:.2g})"):
        table.add_column(name)
    for record in records:
        if record.test in MEASURED:
            value = f"{record.value:.4f} ± {record.error:.4f} nats"
            table.add_row(MEASURED[record.test], "", value, "", f"of {record.num_datasets} data sets")
        else:
            verdict = "yes" if record.passed else "[bold]no[/bold]"
            table.add_row(record.test, record.coordinate, f"{record.value:.3f}", f"{record.p_value:.3g}", verdict)
    console.print(table)
