"""The prior module: statistical models, covariate priors, simulation, log joints."""

from __future__ import annotations

from typing import Any

from icl_bayes.tasks.base import Features, Task
from icl_bayes.tasks.glm import SCENARIOS as GLM_SCENARIOS
from icl_bayes.tasks.glm import make_glm

FAMILIES = {"glm": (make_glm, tuple(GLM_SCENARIOS))}


def task_names() -> list[str]:
    """All built-in scenarios, as ``family/scenario``."""
    return [f"{family}/{scenario}" for family, (_, scenarios) in FAMILIES.items() for scenario in scenarios]


def make_task(name: str, **options: Any) -> Task:
    """A built-in task by name, e.g. ``make_task("glm/5", num_columns=5)``.

    Raises:
        ValueError: for an unknown family or scenario, listing the choices.
    """
    family, _, scenario = name.partition("/")
    if name not in task_names():
        raise ValueError(f"Unknown task {name!r}; choices: {', '.join(task_names())}.")
    return FAMILIES[family][0](int(scenario), **options)


__all__ = ["FAMILIES", "Features", "Task", "make_task", "task_names"]
