"""Tables of the paper, computed again under the corrected protocol, the printed numbers beside ours."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from icl_bayes.benchmark import published
from icl_bayes.benchmark.experiments import Outcome, Plan, run_plan
from icl_bayes.benchmark.methods import MethodRegistry
from icl_bayes.benchmark.real_suites import load_tables, real_suite
from icl_bayes.benchmark.sbibm import SBIBM, reproduce_sbibm
from icl_bayes.benchmark.scenario_names import as_list, scenarios_of
from icl_bayes.benchmark.settings import ALL_METHODS, DataConfig, ReproduceSettings
from icl_bayes.benchmark.shifts import SHIFTS, shifted_suite, shifts_of
from icl_bayes.benchmark.suites import PAPER_COLUMNS, seed_kind, synthetic_suite, task_under_test

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class PaperTable:
    """One table of the paper.

    Attributes:
        number: as printed.
        what: its contents in a few words.
        family: of tasks.
        scenarios: those it covers.
        splits: ``synthetic``, ``real`` or both.
    """

    number: int
    what: str
    family: str
    scenarios: tuple[str, ...]
    splits: tuple[str, ...]


_GLM, _FA, _GMM = tuple("1234567"), tuple("123456"), tuple("1234")
PAPER_TABLES = {
    table.number: table
    for table in (
        PaperTable(1, "GLM, averages over scenarios", "glm", _GLM, ("synthetic", "real")),
        PaperTable(2, "GLM 5 on real data", "glm", ("5",), ("real",)),
        PaperTable(3, "factor analysis, averages over scenarios", "fa", _FA, ("synthetic", "real")),
        PaperTable(4, "Gaussian mixtures, averages over scenarios", "gmm", _GMM, ("synthetic", "real")),
        PaperTable(8, "seconds for 1,000 draws, GLM", "glm", _GLM, ("synthetic", "real")),
        PaperTable(12, "GLM, every scenario", "glm", _GLM, ("synthetic", "real")),
        PaperTable(13, "factor analysis, every scenario", "fa", _FA, ("synthetic", "real")),
        PaperTable(14, "Gaussian mixtures, every scenario", "gmm", _GMM, ("synthetic", "real")),
    )
}


OUT_OF_DISTRIBUTION = "ood"
"""Name of the table of shifts, the paper's Tables 30 to 35 among them."""


def paper_table(number: int | str) -> PaperTable:
    """A table by its number; an unknown one is a ValueError that lists those available."""
    if number not in PAPER_TABLES:
        listed = "; ".join(f"{table.number} ({table.what})" for table in PAPER_TABLES.values())
        raise ValueError(
            f"Table {number} of the paper is not available here. Available: {listed}; "
            f"{OUT_OF_DISTRIBUTION} (data that the model was not made for); {SBIBM} (the benchmark of simulation-based "
            "inference)."
        )
    return PAPER_TABLES[number]  # type: ignore[index]


def reproduce(settings: ReproduceSettings, console: Console) -> Outcome:
    """Compute a table of the paper; running it again does only what is missing.

    Raises:
        ValueError: for an unknown table, scenario or method, listing the choices.
    """
    if settings.table == OUT_OF_DISTRIBUTION:
        return _reproduce_shifts(settings, console)
    if settings.table == SBIBM:
        return reproduce_sbibm(settings, console)
    table = paper_table(settings.table)
    scenarios = list(table.scenarios)
    if settings.scenario != "all":
        scenarios = scenarios_of(table.family, settings.scenario)
        outside = [one for one in scenarios if one not in table.scenarios]
        if outside:
            raise ValueError(
                f"Table {table.number} does not cover scenario(s) {', '.join(outside)}; it covers "
                f"{', '.join(table.scenarios)}."
            )
    registry = MethodRegistry([str(name) for name in as_list(settings.methods)], settings.baseline, settings.networks)
    plan = Plan()
    tables, missing = (), {}
    if "real" in table.splits:
        tables, missing = load_tables(DataConfig(source=settings.real, cache_dir=settings.cache_dir))
    plan.warnings += [f"table {name!r} could not be had: {reason}" for name, reason in missing.items()]
    for scenario in scenarios:
        task = task_under_test(table.family, scenario, PAPER_COLUMNS)
        registry.of(task)
        num_rows, seed = task.paper_num_rows, settings.seed
        if "synthetic" in table.splits:
            suite = synthetic_suite(task, num_datasets=settings.num_datasets, num_rows=num_rows, seed=seed)
            plan.add(f"{task.name} synthetic", suite)
        if "real" in table.splits:
            suite = real_suite(task, tables, num_datasets=settings.num_tables, num_rows=num_rows, seed=seed)
            plan.add(f"{task.name} real", suite)
    return run_plan(
        plan,
        registry,
        Path(settings.out),
        settings.evaluation,
        console,
        title=f"Table {table.number} of the paper: {table.what}",
        introduction=_introduction(settings, table),
        about={"table": table.number, "preset": settings.preset_name, "seed": settings.seed},
    )


def _reproduce_shifts(settings: ReproduceSettings, console: Console) -> Outcome:
    """Raw and refined posteriors of data generated under other conditions; ``family`` says of which tasks."""
    family = settings.family
    known = list(dict.fromkeys(scenario for shift in SHIFTS if shift.family == family for scenario in shift.scenarios))
    wanted = scenarios_of(family, settings.scenario)
    scenarios = [one for one in wanted if one in known]
    if not scenarios:
        raise ValueError(f"table=ood covers scenario(s) {', '.join(sorted(known)) or 'none'} of {family!r}.")
    names = [str(name) for name in as_list(settings.methods)]
    methods = ["icl", "icl+refine"] if names == list(ALL_METHODS) else names
    registry = MethodRegistry(methods, settings.baseline, settings.networks)
    plan = Plan()
    for scenario in scenarios:
        task = task_under_test(family, scenario, PAPER_COLUMNS)
        registry.of(task)
        for shift in shifts_of(family, scenario):
            suite = shifted_suite(task, shift, num_datasets=settings.num_datasets, seed=settings.seed)
            plan.add(f"{task.name} shifted ({shift.name})", suite)
    return run_plan(
        plan,
        registry,
        Path(settings.out),
        settings.evaluation,
        console,
        title="Data that the model was not made for",
        introduction=(
            f"Per scenario and shift {settings.num_datasets} data set(s) generated under other conditions than the "
            f"scenario's, seed {settings.seed} (a {seed_kind(settings.seed)} seed); model and reference are the "
            "scenario's own. Shifts with a letter are those of the paper's Tables 30 to 35."
        ),
        about={"table": settings.table, "preset": settings.preset_name, "seed": settings.seed},
    )


def _introduction(settings: ReproduceSettings, table: PaperTable) -> str:
    real = "every bundled table that serves" if settings.num_tables == 0 else f"{settings.num_tables} real table(s)"
    if settings.real == "openml336":
        real = real.replace("bundled table", "table of OpenML suite 336")
    covariates, theirs = (
        (" with tabular covariates", "min-max scaled covariates, ") if table.family == "glm" else ("", "")
    )
    return (
        f"Per scenario {settings.num_datasets} simulated data set(s){covariates} and {real}, of the paper's sizes, "
        f"seed {settings.seed} (a {seed_kind(settings.seed)} seed), all under the corrected protocol. "
        f"The paper's numbers stand under '{published.HEADING}': {theirs}other real tables, "
        "and references that are wrong in part."
    )
