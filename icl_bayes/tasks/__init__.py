"""The prior module: statistical models, covariate priors, simulation, log joints."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from icl_bayes.tasks.base import Features, Task
from icl_bayes.tasks.custom import CUSTOM, load_program
from icl_bayes.tasks.efa import SCENARIOS as EFA_SCENARIOS
from icl_bayes.tasks.efa import make_efa
from icl_bayes.tasks.fa import SCENARIOS as FA_SCENARIOS
from icl_bayes.tasks.fa import make_fa
from icl_bayes.tasks.glm import SCENARIOS as GLM_SCENARIOS
from icl_bayes.tasks.glm import make_glm
from icl_bayes.tasks.gmm import SCENARIOS as GMM_SCENARIOS
from icl_bayes.tasks.gmm import make_gmm


class Family(NamedTuple):
    """A family of tasks.

    Attributes:
        make: ``(scenario, **options) -> Task``.
        scenarios: numbers of the built-in ones.
        options: names of what ``make`` takes beside the scenario.
    """

    make: Callable[..., Task]
    scenarios: tuple[int, ...]
    options: tuple[str, ...]


FAMILIES = {
    "glm": Family(make_glm, tuple(GLM_SCENARIOS), ("num_columns", "covariates", "covariate_options", "hyperprior")),
    "fa": Family(make_fa, tuple(FA_SCENARIOS), ("hyperprior",)),
    "efa": Family(make_efa, tuple(EFA_SCENARIOS), ("hyperprior",)),
    "gmm": Family(make_gmm, tuple(GMM_SCENARIOS), ("hyperprior",)),
}


def task_names() -> list[str]:
    """All built-in scenarios, as ``family/scenario``."""
    return [f"{name}/{scenario}" for name, family in FAMILIES.items() for scenario in family.scenarios]


def make_task(name: str, **options: Any) -> Task:
    """A built-in task by name, e.g. ``make_task("glm/5", num_columns=5)``.

    Options that a family does not have, such as the covariates of a model without any, are passed over. A task of
    one's own is called ``custom/module:name`` and imported from there (:func:`icl_bayes.tasks.custom.load_program`).

    Raises:
        ValueError: for an unknown family or scenario, or an option of no family, listing the choices.
    """
    if name.startswith(f"{CUSTOM}/"):
        return load_program(name.removeprefix(f"{CUSTOM}/"))
    if name not in task_names():
        raise ValueError(f"Unknown task {name!r}; choices: {', '.join(task_names())}, or custom/module:name.")
    known = sorted({option for family in FAMILIES.values() for option in family.options})
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise ValueError(f"Unknown option(s) {', '.join(unknown)} of tasks; choices: {', '.join(known)}.")
    family, _, scenario = name.partition("/")
    own = {option: value for option, value in options.items() if option in FAMILIES[family].options}
    return FAMILIES[family].make(int(scenario), **own)


__all__ = ["CUSTOM", "FAMILIES", "Family", "Features", "Task", "load_program", "make_task", "task_names"]
