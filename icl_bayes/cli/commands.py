"""What each command does once its settings are known; the entry points in ``experiments/`` call these too."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from icl_bayes.benchmark.calibration import CalibrationOutcome
    from icl_bayes.benchmark.experiments import Outcome
    from icl_bayes.benchmark.settings import CalibrationSettings, DemoSettings, EvaluationSettings, ReproduceSettings
    from icl_bayes.config.schemas import GlmSettings, SampleSettings, TrainSettings


def make_console() -> Console:
    """The console that results are printed to."""
    from rich.console import Console

    return Console()


def train(settings: TrainSettings) -> Path:
    """Train a network, or go on with a run that was interrupted; returns the network's directory.

    Raises:
        ValueError: for an unknown task.
        CheckpointError: if the directory holds another run.
    """
    from icl_bayes.cli.environment import join_hosts

    if settings.distributed:
        join_hosts()
    import jax

    from icl_bayes.tasks import CUSTOM
    from icl_bayes.training import fit

    console = make_console()
    config, out = settings.network(), Path(settings.out)
    task = config.task.build()  # an unknown scenario is known before anything is timed or written
    config = config.for_task(task)
    is_main = jax.process_index() == 0
    if settings.minutes:
        from icl_bayes.training.budget import with_budget

        config = with_budget(config, settings.minutes, out, task)
        console.print(f"{config.training.num_steps} steps take about {settings.minutes:g} min here.")
    directory = fit(config, out, task=task, console=console if is_main else _silent(), evaluate=settings.evaluate)
    if is_main:
        is_own = config.task.family == CUSTOM
        response = f" --task {config.task.program}" if is_own else " --target y" if task.has_response else ""
        console.print(f"Use it: icl-bayes sample data.csv{response} --net {out}", soft_wrap=True, highlight=False)
    return directory


def _silent() -> Console:
    from rich.console import Console

    return Console(quiet=True)


def evaluate(settings: EvaluationSettings) -> Outcome:
    """Score methods on test sets; see :func:`icl_bayes.benchmark.experiments.evaluate`."""
    from icl_bayes.benchmark.experiments import evaluate as run

    return run(settings, make_console())


def reproduce(settings: ReproduceSettings) -> Outcome:
    """Compute a table of the paper again; see :func:`icl_bayes.benchmark.reproduce.reproduce`."""
    from icl_bayes.benchmark.reproduce import reproduce as run

    return run(settings, make_console())


def calibrate(settings: CalibrationSettings) -> CalibrationOutcome:
    """Test the calibration of networks; see :func:`icl_bayes.benchmark.calibration.calibrate`."""
    from icl_bayes.benchmark.calibration import calibrate as run

    return run(settings, make_console())


def demo(settings: DemoSettings) -> Outcome:
    """Networks and their rivals on real data; see :func:`icl_bayes.benchmark.demo.run_demo`."""
    from icl_bayes.benchmark.demo import run_demo

    return run_demo(settings, make_console())


def sample(settings: SampleSettings) -> Any:
    """Posterior draws for a CSV file; see :func:`icl_bayes.cli.sample.sample`."""
    from icl_bayes.cli.sample import sample as run

    return run(settings)


def glm(settings: GlmSettings) -> Any:
    """The posterior of a regression for a CSV file; see :func:`icl_bayes.cli.glm.glm`."""
    from icl_bayes.cli.glm import glm as run

    return run(settings)


def exit_code(command: str, result: Any) -> int:
    """Zero if a command did something useful: an evaluation without any score did not."""
    if command in ("evaluate", "reproduce", "demo") and result.report is None:
        print("error: no score at all; the reasons are listed above.", file=sys.stderr)
        return 1
    return 0


COMMANDS = {
    "train": train,
    "sample": sample,
    "glm": glm,
    "evaluate": evaluate,
    "reproduce": reproduce,
    "calibrate": calibrate,
    "demo": demo,
}
