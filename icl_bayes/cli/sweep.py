"""``--multirun``: Hydra sweeps and launches the jobs; afterwards their records are joined."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from icl_bayes.cli import commands
from icl_bayes.config.compose import SHORT_FORMS, compose, expand_short_forms, to_settings
from icl_bayes.config.errors import ConfigError, split_override
from icl_bayes.config.files import config_dir

SWEEPABLE = ("train", "evaluate")
MAX_JOBS = 1000


def combinations(overrides: Sequence[str]) -> list[list[str]]:
    """The overrides of every job: all combinations of the settings with several values.

    Raises:
        ConfigError: for overrides that can't be parsed, or more than a thousand jobs.
    """
    import itertools

    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
    except HydraException as error:
        raise ConfigError(str(error).splitlines()[0]) from error
    values: list[list[str]] = []
    for item in parsed:
        key = item.get_key_element()
        if key.startswith("hydra"):
            continue
        if item.is_sweep_override():
            if not item.is_discrete_sweep():
                raise ConfigError(f"{item.input_line}: only lists and ranges can be swept, e.g. seed=1,2,3.")
            values.append([f"{key}={value}" for value in item.sweep_string_iterator()])
        else:
            values.append([f"{key}={item.get_value_element_as_str()}"])
    jobs = [list(job) for job in itertools.islice(itertools.product(*values), MAX_JOBS + 1)]
    if len(jobs) > MAX_JOBS:
        raise ConfigError(f"More than {MAX_JOBS} combinations; split the sweep.")
    return jobs


def job_name(overrides: Sequence[str]) -> str:
    """A directory name for a job, the same whenever it is run again."""
    from icl_bayes.benchmark.cases import slug

    return slug(",".join(sorted(overrides))) or "defaults"


def run_sweep(command: str, overrides: Sequence[str]) -> int:
    """Run all jobs, join their records, and return the exit code.

    Everything goes below the directory given as ``out=``: ``jobs/NAME`` per job, Hydra's own logs in
    ``hydra``, joined records and the report at the top.

    Raises:
        ConfigError: before anything runs, if any job's settings are wrong.
    """
    if command not in SWEEPABLE:
        raise ConfigError(f"--multirun is for {' and '.join(SWEEPABLE)}; received {command}.")
    overrides = expand_short_forms(command, overrides)
    given = [text for text in overrides if split_override(text)[1] == "out"]
    root = Path(split_override(given[-1])[2] if given else f"runs/{command}-sweep").resolve()
    swept = [text for text in overrides if text not in given]
    jobs = combinations(swept)
    for job in jobs:
        compose(command, job)
    own = [text for text in swept if not split_override(text)[1].startswith("hydra")]
    hydra_settings = [text for text in swept if text not in own]
    arguments = [
        "--multirun",
        f"hydra.sweep.dir={root / 'hydra'}",
        "hydra.sweep.subdir=${hydra.job.num}",
        f"hydra.job.name={command}",
        *hydra_settings,
        f"out='{root}'",
        *own,
    ]
    print(f"{len(jobs)} job(s), results in {root}")
    failed = _launch(command, arguments)
    if command == "evaluate":
        from icl_bayes.benchmark.experiments import merge_runs

        outcome = merge_runs(root, commands.make_console(), title="Methods compared: a sweep")
        return 1 if failed or outcome is None else 0
    print_runs(root)
    return 1 if failed else 0


def _launch(command: str, arguments: list[str]) -> bool:
    """Hand over to Hydra; true if a job failed (Hydra has said which)."""
    import hydra

    task = {"train": train_job, "evaluate": evaluate_job}[command]
    kept = sys.argv
    sys.argv = [f"icl-bayes {command}", *arguments]
    try:
        hydra.main(config_path=str(config_dir()), config_name=command, version_base="1.3")(task)()
    except SystemExit as stop:
        return bool(stop.code)
    finally:
        sys.argv = kept
    return False


def _job_settings(config: DictConfig) -> Any:
    """Settings of one job, its output directory named after its overrides."""
    from hydra.core.hydra_config import HydraConfig

    overrides = [text for text in HydraConfig.get().overrides.task if split_override(text)[1] != "out"]
    config.out = str(Path(config.out) / "jobs" / job_name(overrides))
    return to_settings(config)


def train_job(config: DictConfig) -> None:
    """One job of a training sweep, called by Hydra's launcher."""
    commands.train(_job_settings(config))


def evaluate_job(config: DictConfig) -> None:
    """One job of an evaluation sweep, called by Hydra's launcher."""
    commands.evaluate(_job_settings(config))


def print_runs(root: Path) -> None:
    """Join the last metrics of all training runs of a sweep in ``runs.csv`` and print them."""
    import csv

    from icl_bayes.training.fit import METRIC_FIELDS

    rows = []
    for path in sorted((root / "jobs").glob("*/metrics.csv")):
        with path.open() as handle:
            metrics = list(csv.DictReader(handle))
        if metrics:
            rows.append({"run": path.parent.name, **metrics[-1]})
    with (root / "runs.csv").open("w", newline="") as handle:
        writer = csv.DictWriter(handle, ["run", *METRIC_FIELDS])
        writer.writeheader()
        writer.writerows(rows)
    for row in rows:
        print(f"{row['run']}: step {row['step']}, loss {row['loss']}, held-out C2ST {row['held_out_c2st']}")
    print(f"Metrics of {len(rows)} run(s): {root / 'runs.csv'}")


__all__ = ["SHORT_FORMS", "combinations", "evaluate_job", "job_name", "run_sweep", "train_job"]
