"""A first look: the shipped networks beside NUTS, VI, Laplace and the reference, on real data."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from icl_bayes.benchmark.experiments import Outcome, Plan, run_plan
from icl_bayes.benchmark.methods import MethodRegistry
from icl_bayes.benchmark.real_suites import FEATURES, load_tables, real_suite, response_kind
from icl_bayes.benchmark.references import TaskReference
from icl_bayes.benchmark.scenario_names import as_list, scenarios_of
from icl_bayes.benchmark.settings import (
    DEMO_SCENARIOS,
    DataConfig,
    DemoSettings,
    EvaluationConfig,
)
from icl_bayes.benchmark.suites import task_under_test

if TYPE_CHECKING:
    from rich.console import Console

_TITLES = {
    "glm": "GLM posteriors in context, on real data",
    "fa": "Factor analysis posteriors in context, on real data",
    "efa": "Posteriors of loadings in context, on real data",
    "gmm": "Mixture posteriors in context, on real data",
}
_INTRODUCTIONS = {
    "glm": (
        "Bundled real data sets under several generalized linear models: the posterior by one pass of a network that "
        "was trained on simulated data only, beside NUTS, variational inference and the Laplace approximation. In "
        "models 1 and 2 the reference is exact, elsewhere it is four long NUTS chains that passed every check."
    ),
    "fa": (
        "Bundled real data sets under the paper's factor models, one factor for each data set: the posterior by one "
        "pass of a network that was trained on simulated data only, beside NUTS, variational inference and the Laplace "
        "approximation. Loadings, means and variances are integrated out. The reference is adaptive importance "
        "resampling with an effective number of proposals of fifty for each draw."
    ),
    "efa": (
        "Columns of bundled real data sets under factor analysis with a factor for every row, integrated out: the "
        "posterior of loadings (lower triangular, with a positive diagonal), means and uniquenesses by one pass of a "
        "network that was trained on simulated data only, beside NUTS, variational inference and the Laplace "
        "approximation. The reference is four long NUTS chains that passed every check."
    ),
    "gmm": (
        "Columns of bundled real data sets under the paper's Gaussian mixtures: the posterior of weights, means and "
        "variances by one pass of a network that was trained on simulated data only, beside NUTS, variational "
        "inference and the Laplace approximation. Components are numbered at random in every draw of every method, "
        "which is exact by symmetry. The reference is tempered sequential Monte Carlo, four independent runs that "
        "have to agree."
    ),
}


def run_demo(settings: DemoSettings, console: Console) -> Outcome:
    """Score the shipped networks and their rivals on a few real data sets and write the report.

    Raises:
        ValueError: for unknown scenarios, methods or tables, listing the choices.
        CheckpointError: if a scenario has no network.
    """
    registry = MethodRegistry([str(name) for name in as_list(settings.methods)], settings.baseline, settings.networks)
    plan = Plan()
    names = {
        "real": settings.tables_real,
        "binary": settings.tables_binary,
        "positive": settings.tables_positive,
        FEATURES: settings.tables_features,
    }
    family = settings.family
    scenarios = DEMO_SCENARIOS.get(family, "all") if settings.scenario == "few" else settings.scenario
    tasks = [task_under_test(family, scenario, 0) for scenario in scenarios_of(family, scenarios)]
    for task in tasks:  # so that a missing network is known before anything is computed
        registry.of(task)
    taken: Counter[str] = Counter()
    for task in tasks:
        kind = response_kind(task)
        # Scenarios with the same kind of response begin with different tables.
        turn = np.roll(names[kind], -settings.num_datasets * taken[kind]).tolist()
        taken[kind] += 1
        tables, _ = load_tables(DataConfig(source="bundled", tables=turn))
        suite = real_suite(
            task,
            tables,
            num_datasets=settings.num_datasets,
            num_rows=task.paper_num_rows,
            seed=settings.seed,
            in_order=True,
        )
        plan.add(f"{task.name} real", suite)
    scoring = EvaluationConfig(metrics=settings.metrics, workers=settings.workers, keep_draws=True)
    return run_plan(
        plan,
        registry,
        Path(settings.out),
        scoring,
        console,
        title=_TITLES[family],
        introduction=_INTRODUCTIONS[family],
        about={"seed": settings.seed},
        reference=TaskReference(quick=True),
    )
