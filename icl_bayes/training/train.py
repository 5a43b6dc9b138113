"""Training in one call, for a task at hand."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from rich.console import Console

from icl_bayes.flow import MAX_DENOISED
from icl_bayes.nets import ModelConfig
from icl_bayes.tasks import CUSTOM, FAMILIES, Task
from icl_bayes.training.budget import with_budget
from icl_bayes.training.config import FlowConfig, NetworkConfig, TargetsConfig, TaskConfig, TrainingConfig
from icl_bayes.training.fit import fit


def train(
    task: Task,
    directory: str | Path,
    *,
    minutes: float = 5.0,
    config: NetworkConfig | None = None,
    console: Console | None = None,
    evaluate: bool = True,
) -> Path:
    """Train a network for a task, or go on with a run that was interrupted.

    Args:
        task: of one's own (:meth:`Task.from_numpyro`) or built in.
        directory: of the run, see :func:`icl_bayes.training.fit`.
        minutes: about how long the training steps take on this machine, compilation apart; 0 for the number of steps
            that ``config`` says.
        config: architecture, flow, targets and training; by default :func:`default_config`. What it says of the task is
            replaced.
        evaluate: whether to compute the periodic held-out C2ST.

    Returns:
        The directory of the network, for ``icl_bayes.load(directory, task=task)``.
    """
    config = dataclasses.replace(config or default_config(task), task=task_config(task)).for_task(task)
    if minutes:
        config = with_budget(config, minutes, Path(directory), task)
    return fit(config, directory, task=task, console=console, evaluate=evaluate)


DENOISED = NetworkConfig(
    model=ModelConfig(
        width=64, feedforward=256, base="standard", inputs="theta_and_denoised", parametrization="velocity"
    ),
    flow=FlowConfig(path="linear", loss="flow_matching", solver="midpoint", solver_steps=32, solver_exponent=2.0),
    targets=TargetsConfig(num_draws=1, num_moves=0),
    training=TrainingConfig(
        num_steps=9600, batch_size=512, passes=8, row_buckets=[64], bucket_weights=[1.0], evaluate_steps=1600
    ),
)
"""For posteriors of any form in few dimensions (``experiment=denoised``): the velocity corrects a denoiser by
importance sampling, so that narrow ridges and modes are in place before it has learned anything. Steps of the solver
are the shorter the nearer the data, where what is narrow comes about."""


def default_config(task: Task) -> NetworkConfig:
    """How a task is trained unless one says otherwise.

    :data:`DENOISED` where modes may lie far apart, in few dimensions; else the informed network of the command line,
    which starts from the closest Gaussian.
    """
    if task.has_far_modes and not task.num_exchangeable and task.dim <= MAX_DENOISED:
        return DENOISED
    return NetworkConfig(targets=TargetsConfig(mode_starts=2))


def task_config(task: Task) -> TaskConfig:
    """What a configuration says of a task."""
    family, _, rest = task.name.partition("/")
    if family not in FAMILIES:
        return TaskConfig(family=CUSTOM, program=rest or task.name)
    known = {field.name for field in dataclasses.fields(TaskConfig)}
    options = {name: value for name, value in task.options.items() if name in known}
    return TaskConfig(family=family, scenario=int(rest), **options)
