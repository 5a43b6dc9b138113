"""In-context Bayesian inference: a data set in, joint posterior draws out.

The public names load on first use, so that ``import icl_bayes`` costs nothing:

* ``load(name_or_path)``: a trained network, shipped or from a checkpoint directory;
* ``Dataset(x=X, y=y)``: what is observed;
* ``glm("y ~ x1 + C(group)", data, family, priors)``: the certified posterior of a regression, ``glm_batch`` for many
  groups at once, ``compare`` for several models;
* ``from_inference_data(data, task, dataset)``: draws that others have made, to be checked, repaired, or gone on from;
* ``compare_evidence({name: posterior})``: models of the same data by their evidence;
* ``Task.from_numpyro(model, ...)``: a task from any NumPyro model, and ``train(task, directory)`` a network for it;
* ``make_task(name)``: a statistical model with its covariate prior, such as ``"glm/5"``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from icl_bayes.inference import compare_evidence, from_inference_data, load
    from icl_bayes.regression import compare, glm, glm_batch
    from icl_bayes.tasks import Task, make_task
    from icl_bayes.training import train
    from icl_bayes.types import Dataset

__version__ = "0.1.0"

__all__ = [
    "Dataset",
    "Task",
    "__version__",
    "compare",
    "compare_evidence",
    "from_inference_data",
    "glm",
    "glm_batch",
    "load",
    "make_task",
    "train",
]

_HOMES = {
    "load": "icl_bayes.inference",
    "compare_evidence": "icl_bayes.inference",
    "from_inference_data": "icl_bayes.inference",
    "train": "icl_bayes.training",
    "glm": "icl_bayes.regression",
    "glm_batch": "icl_bayes.regression",
    "compare": "icl_bayes.regression",
    "Task": "icl_bayes.tasks",
    "make_task": "icl_bayes.tasks",
    "Dataset": "icl_bayes.types",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it offers {', '.join(__all__)}")
    from importlib import import_module

    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
