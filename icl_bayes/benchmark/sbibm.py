"""The benchmark of simulation-based inference: its observations, published draws and metric; networks trained here.

The files are read where the package ``sbibm`` keeps them. It is never imported, since it needs PyTorch and Pyro; it is
enough to install it without what it depends on.
"""

from __future__ import annotations

import dataclasses
import importlib.util
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from icl_bayes.benchmark.cases import Case
from icl_bayes.benchmark.experiments import Outcome, Plan, run_plan
from icl_bayes.benchmark.methods import MethodRegistry
from icl_bayes.benchmark.scenario_names import as_list
from icl_bayes.benchmark.settings import ALL_METHODS, ReproduceSettings
from icl_bayes.benchmark.suites import Suite
from icl_bayes.examples import sbibm as models
from icl_bayes.tasks import Task
from icl_bayes.training import DENOISED, NetworkConfig, TargetsConfig, fit
from icl_bayes.training.train import task_config
from icl_bayes.types import Dataset, SampleResult

if TYPE_CHECKING:
    from rich.console import Console

SBIBM = "sbibm"
"""Name of the table, and of the package that holds the files."""
METRIC = "c2st_sbibm"
NUM_OBSERVATIONS = 10
MAX_SIMULATIONS = 1_000_000
MAX_DRAWS = 10_000
"""Draws compared, as many as are published. Half of them leave the metric blind to fine structure."""


class SbibmUnavailableError(ImportError):
    """The files of the benchmark are not there."""


# ------------------------------------------------------------------------------- files


def sbibm_files(directory: str | Path = "") -> Path:
    """The folder ``tasks`` of the benchmark.

    Args:
        directory: where to look instead of in the installed package.

    Raises:
        SbibmUnavailableError: if there is none, saying how to get it.
    """
    root = Path(directory) if directory else None
    if root is None:
        found = importlib.util.find_spec(SBIBM)
        places = list(found.submodule_search_locations or []) if found else []
        root = Path(places[0]) / "tasks" if places else None
    if root is None or not root.is_dir():
        raise SbibmUnavailableError(
            f"The files of the benchmark sbibm are not {f'in {root}' if root else 'installed'}. Install them with "
            "`pip install --no-deps sbibm`; what that package depends on is not needed."
        )
    return root


def load_observation(name: str, number: int, directory: str | Path = "") -> tuple[Dataset, np.ndarray]:
    """An observation of a task, and published draws of its posterior ``(10000, dim)``.

    Args:
        name: of the task.
        number: from 1 to 10.
        directory: see :func:`sbibm_files`.

    Raises:
        SbibmUnavailableError: without the benchmark's files.
        ValueError: for an unknown task or number.
    """
    if name not in models.TASKS:
        raise ValueError(f"There is no task {name!r} of sbibm here; choose from {', '.join(models.TASKS)}.")
    if not 1 <= number <= NUM_OBSERVATIONS:
        raise ValueError(f"Observations of sbibm have the numbers 1 to {NUM_OBSERVATIONS}; received {number}.")
    folder = sbibm_files(directory) / name / "files" / f"num_observation_{number}"
    reference = _numbers(folder / "reference_posterior_samples.csv.bz2")
    if name == "bernoulli_glm":  # what is published as the observation are sufficient statistics of these
        spikes = _numbers(folder / "observation_raw.csv").ravel()
        return Dataset(design=models.filter_design(), x=spikes), reference
    num_rows = models.TASKS[name]().paper_num_rows
    return Dataset(x=_numbers(folder / "observation.csv").reshape(num_rows, -1)), reference


def _numbers(path: Path) -> np.ndarray:
    """A file with one line of names, float32."""
    import pandas as pd

    if not path.is_file():
        raise SbibmUnavailableError(f"There is no file {path}; install it again: `pip install --no-deps sbibm`.")
    return pd.read_csv(path).to_numpy(np.float32)


@dataclasses.dataclass(frozen=True)
class PublishedReference:
    """Draws that come with the benchmark.

    Attributes:
        directory: see :func:`sbibm_files`.
        name: part of the file name under which references are kept.
        has_no_floor: all published draws are needed for comparisons.
    """

    directory: str = ""
    name: str = "published"
    has_no_floor: bool = True

    def __call__(self, case: Case) -> SampleResult:
        _, draws = load_observation(case.scenario, int(case.name), self.directory)
        return SampleResult({models.PARAMETERS: draws}, 0.0, 0.0)


def sbibm_suite(name: str, num_observations: int, directory: str = "") -> Suite:
    """Observations 1 to ``num_observations`` of a task."""
    task = sbibm_task(name)
    cases = []
    for number in range(1, num_observations + 1):
        dataset, _ = load_observation(name, number, directory)
        prepared = task.prepare(dataset)
        cases.append(Case(SBIBM, name, "synthetic", f"{number:02d}", 0, prepared, task.paper_num_rows, task.dim, task))
    return Suite(tuple(cases), {"simulated": num_observations})


# ----------------------------------------------------------------------------- networks

_GAUSSIAN = NetworkConfig(targets=TargetsConfig(mode_starts=2))
"""For posteriors that are nearly Gaussian: what the command line trains by default."""
_DENOISED = dataclasses.replace(DENOISED, model=dataclasses.replace(DENOISED.model, inducing_points=4))
"""For narrow ridges, and scales that differ: a velocity that corrects a denoiser."""
_FLOW_MATCHING = dataclasses.replace(
    _DENOISED,
    model=dataclasses.replace(_DENOISED.model, inputs="theta_and_score", smoothed_score=False),
    flow=dataclasses.replace(DENOISED.flow, solver_exponent=1.0),
    training=dataclasses.replace(DENOISED.training, learning_rate=3e-3),
)
"""For other posteriors of any form: a velocity that sees the score."""


def _recipe(config: NetworkConfig, num_steps: int) -> NetworkConfig:
    return dataclasses.replace(config, training=dataclasses.replace(config.training, num_steps=num_steps))


RECIPES = {
    "gaussian_linear": _recipe(_GAUSSIAN, 320),
    "bernoulli_glm": _recipe(_GAUSSIAN, 1600),
    "gaussian_mixture": _recipe(_DENOISED, 9600),
    "slcp": _recipe(_DENOISED, 9600),
    "two_moons": _recipe(_FLOW_MATCHING, 6400),
}
"""How the network of each task is trained."""


@lru_cache(maxsize=len(RECIPES))
def sbibm_task(name: str) -> Task:
    """One object per task, so that programs are shared."""
    return models.TASKS[name]()


def network_home(root: Path, task: Task) -> Path:
    """Where the run of a task's network lies under a root."""
    return root / task.name


def train_network(name: str, directory: Path, console: Console) -> None:
    """Train the network of a task by its recipe, or go on with it; nothing where there is a network."""
    if (directory / "network" / "checkpoint.json").is_file():
        return
    task = sbibm_task(name)
    config = dataclasses.replace(RECIPES[name], task=task_config(task)).for_task(task)
    console.print(f"Training a network for {name}: {simulations(config):,} simulations.", highlight=False)
    fit(config, directory, task=task, console=console, evaluate=False)


def simulations(config: NetworkConfig) -> int:
    """How many data sets a configuration simulates."""
    return config.training.num_steps * config.training.batch_size // config.training.passes


# ------------------------------------------------------------------------------- table


def reproduce_sbibm(settings: ReproduceSettings, console: Console) -> Outcome:
    """Train what is missing and score it against published draws; running it again completes it.

    Raises:
        SbibmUnavailableError: without the benchmark's files.
        ValueError: for unknown tasks or methods, listing the choices.
    """
    wanted = list(models.TASKS) if settings.scenario == "all" else [str(one) for one in as_list(settings.scenario)]
    unknown = sorted(set(wanted) - set(models.TASKS))
    if unknown or not wanted:
        raise ValueError(f"table=sbibm covers {', '.join(models.TASKS)}; received {', '.join(unknown) or 'none'}.")
    names = [str(name) for name in as_list(settings.methods)]
    methods = ["icl", "icl+refine"] if names == list(ALL_METHODS) else names
    num_observations = min(settings.num_datasets, NUM_OBSERVATIONS)
    plan = Plan()
    for name in wanted:
        plan.add(f"sbibm/{name} synthetic", sbibm_suite(name, num_observations, settings.cache_dir))
    out = Path(settings.out)
    networks = Path(settings.networks) if settings.networks else out / "networks"
    registry = MethodRegistry(methods, settings.baseline, str(networks))
    if not settings.networks and any(name.startswith("icl") for name in methods):
        for name in wanted:
            train_network(name, network_home(networks, sbibm_task(name)), console)
    reference = PublishedReference(settings.cache_dir)
    num_draws = min(MAX_DRAWS, *(len(reference(case).sites[models.PARAMETERS]) for case in plan.cases))
    return run_plan(
        plan,
        registry,
        out,
        dataclasses.replace(settings.evaluation, num_draws=num_draws, metrics=[METRIC]),
        console,
        title="The benchmark of simulation-based inference",
        introduction=(
            f"Observations 1 to {num_observations} of sbibm (Lueckmann et al., 2021), scored by its own C2ST, "
            f"{num_draws:,} draws against as many published ones. Networks were trained on at most "
            f"{MAX_SIMULATIONS:,} simulations each. They see the gradient of the likelihood, and `+refine`, what "
            "certificates let pass, its values too: methods of this benchmark do without."
        ),
        about={"table": SBIBM, "preset": settings.preset_name, "seed": settings.seed},
        reference=reference,
    )
