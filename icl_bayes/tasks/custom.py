"""Tasks of a user's own, found by address: ``module:name``."""

from __future__ import annotations

import dataclasses
import importlib
import os
import sys
from functools import lru_cache

from icl_bayes.tasks.base import Task

CUSTOM = "custom"
"""Family of all tasks of a user's own."""


@lru_cache(maxsize=32)
def load_program(address: str) -> Task:
    """The task at ``module:name``: a :class:`Task`, or a function without arguments that returns one.

    Modules are looked for on the path and in the working directory. The task is named after its address, so that
    records and checkpoints say where it came from.

    Raises:
        ValueError: if there is nothing of the kind.
    """
    module_name, colon, name = address.partition(":")
    if not colon or not module_name or not name:
        raise ValueError(
            f"{address!r} does not say where a task is; write module:name, such as my_models:eight_schools. A network "
            "for a task that was made in Python is loaded with load(directory, task=task)."
        )
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and not module_name.startswith(error.name):
            raise  # something that the module itself imports
        raise ValueError(
            f"There is no module {module_name!r} to take {address!r} from; looked on the path and in {here}."
        ) from error
    if not hasattr(module, name):
        tasks = [key for key, value in vars(module).items() if isinstance(value, Task)]
        raise ValueError(f"The module {module_name!r} has no {name!r}. Tasks in it: {', '.join(tasks) or 'none'}.")
    found = getattr(module, name)
    if not isinstance(found, Task):
        try:
            found = found()
        except TypeError as error:
            raise ValueError(_NO_TASK.format(address=address, what=f"could not be called ({error})")) from error
    if not isinstance(found, Task):
        raise ValueError(_NO_TASK.format(address=address, what=f"gave {type(found).__name__}"))
    return dataclasses.replace(found, name=f"{CUSTOM}/{address}")


_NO_TASK = (
    "{address!r} {what}; expected an icl_bayes.Task, or a function without arguments that returns one, as "
    "Task.from_numpyro(model, inputs, num_rows=...) does."
)
