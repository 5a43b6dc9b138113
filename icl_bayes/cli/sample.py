"""``icl-bayes sample``: a CSV file in, a posterior out."""

from __future__ import annotations

import dataclasses
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from icl_bayes.config.errors import ConfigError

if TYPE_CHECKING:
    from icl_bayes.config.schemas import SampleSettings
    from icl_bayes.datasets import Columns, Table
    from icl_bayes.inference import AmortizedPosterior, Posterior
    from icl_bayes.tasks import Task
    from icl_bayes.types import Dataset

MIN_AGREEMENT = 0.7
"""About rows, below which components have no clear identity."""
FORMATS = (".csv", ".npz", ".nc")


def sample(settings: SampleSettings) -> Posterior:
    """Read the data, draw, print the summary with warnings and timings, write the draws.

    Raises:
        ValueError: for data that the model can't be conditioned on, with what to do.
        CheckpointError: for a network that can't be loaded.
    """
    started = time.perf_counter()
    suffix = Path(settings.out).suffix
    if settings.out and suffix not in FORMATS:
        raise ConfigError(f"The draws can be written as {', '.join(FORMATS)}; received out={settings.out!r}.")
    if settings.out and not Path(settings.out).parent.is_dir():
        raise ConfigError(f"There is no directory {str(Path(settings.out).parent)!r} to write {settings.out!r} to.")

    from icl_bayes.datasets import Table, load_columns, load_csv

    features = settings.features or None
    if settings.program and (settings.target or settings.standardize or settings.features):
        raise ConfigError(
            "With --task the model says which columns it takes, by the names of its rows; leave out --target, "
            "--features and --standardize."
        )
    if settings.target:
        table = load_csv(settings.file, target=settings.target, features=features)
    else:
        table = load_columns(settings.file, features=features)

    import jax

    from icl_bayes.cli.environment import cache_root
    from icl_bayes.compiler import QUICK_TO_COMPILE
    from icl_bayes.inference import load
    from icl_bayes.inference.program_store import ProgramStore
    from icl_bayes.tasks import load_program

    # A program that runs once is sooner compiled plainly: half the time, and draws equal to rounding.
    jax.config.update("jax_disable_most_optimizations", True)
    own = load_program(settings.program) if settings.program else None
    net = load(settings.net, task=own)
    if own is None:  # the code of a task of one's own may change without the configuration saying so
        net.store = ProgramStore(cache_root() / "programs", QUICK_TO_COMPILE)
    if own is not None:
        assert not isinstance(table, Table)
        dataset, notes = rows_by_name(table, own), []
    else:
        _check_response(settings, table, net)
        _check_columns(table, net)
        dataset, notes = _dataset(table, settings.standardize, gaussian=_has_gaussian_response(net))
    loaded = time.perf_counter()
    solver = dataclasses.replace(net.solver, num_steps=settings.solver_steps) if settings.solver_steps else None
    rng_key = jax.random.key(settings.seed)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        posterior = net.sample(rng_key, dataset, settings.draws, solver=solver, polish=settings.polish)
        if settings.refine:
            posterior = posterior.refine(jax.random.fold_in(rng_key, 1))
    drawn = time.perf_counter()
    _print_summary(posterior, table, net)
    for note in notes:
        print(note)
    for warning in caught:
        if issubclass(warning.category, UserWarning):
            hint = "" if settings.standardize or "training range" not in str(warning.message) else _HINT
            print(f"warning: {warning.message}{hint}")
    if settings.refine:
        _print_certificate(posterior)
    if settings.out:
        write_draws(posterior, Path(settings.out))
        print(f"{settings.draws} draws written to {settings.out}")
    print(
        f"{settings.draws} draws in {posterior.info['seconds']:.2f} s, compilation included; "
        f"loading took {loaded - started:.2f} s, everything {drawn - started:.2f} s"
    )
    return posterior


def rows_by_name(table: Columns, task: Task) -> Dataset:
    """The rows of a task from columns of the same names; of a matrix ``x`` from ``x[0]``, ``x[1]`` and so on.

    Raises:
        ConfigError: for columns that are not there.
    """
    from icl_bayes.types import Dataset

    rows: dict[str, Any] = {}
    for name, like in task.example.rows.items():
        wanted = [name] if like.ndim == 1 else [f"{name}[{index}]" for index in range(like.shape[1])]
        missing = [one for one in wanted if one not in table.columns]
        if missing:
            raise ConfigError(
                f"The task {task.name} has the rows {', '.join(task.example.rows)}; the file lacks the column(s) "
                f"{', '.join(missing)}. Its columns: {', '.join(table.columns)}."
            )
        columns = [table.features[:, table.columns.index(one)] for one in wanted]
        rows[name] = columns[0] if like.ndim == 1 else np.stack(columns, axis=1)
    return Dataset(**rows)


_HINT = " If the columns have other units than in training, --standardize puts them on one scale."


def _check_response(settings: SampleSettings, table: Table | Columns, net: AmortizedPosterior) -> None:
    if net.task.has_response and not settings.target:
        raise ConfigError(
            f"The network {net.label!r} answers a regression: name the response with --target, one of "
            f"{', '.join(table.columns)}."
        )
    if settings.target and not net.task.has_response:
        raise ConfigError(
            f"The model of the network {net.label!r} has no response: leave out --target, and choose columns with "
            f"--features, e.g. --features {','.join(table.columns[: net.task.num_columns])}."
        )


def _check_columns(table: Table | Columns, net: AmortizedPosterior) -> None:
    expected = net.task.num_columns
    if table.num_columns == expected:
        return
    listed = ", ".join(table.columns)
    if table.num_columns > expected:
        chosen = ",".join(table.columns[:expected])
        raise ValueError(
            f"The network {net.label!r} takes {expected} features, the file has {table.num_columns}: {listed}. "
            f"Choose {expected} of them, e.g. --features {chosen}."
        )
    raise ValueError(
        f"The network {net.label!r} takes {expected} features, the file has only {table.num_columns}: {listed}. "
        f"Use a network trained for {table.num_columns} (icl-bayes train task.num_columns={table.num_columns})."
    )


def _has_gaussian_response(net: AmortizedPosterior) -> bool:
    from icl_bayes.tasks.glm import SCENARIOS

    family, _, scenario = net.task.name.partition("/")
    return family == "glm" and SCENARIOS[int(scenario)].response == "gaussian"


def _dataset(table: Table | Columns, standardize: bool, *, gaussian: bool) -> tuple[Dataset, list[str]]:
    """The rows for the network, and what standardizing features and a Gaussian response means for the draws."""
    from icl_bayes.datasets import Columns
    from icl_bayes.types import Dataset

    x, notes = np.array(table.features), []
    if standardize:
        spread = x.std(axis=0)
        constant = [name for name, value in zip(table.columns, spread, strict=True) if value == 0.0]
        if constant:
            raise ValueError(f"Constant column(s) {constant} can't be standardized; leave them out with --features.")
        x = (x - x.mean(axis=0)) / spread
    if isinstance(table, Columns):
        notes += ["Columns are standardized: mean 0 and standard deviation 1."] if standardize else []
        return Dataset(x=x), notes
    y = np.array(table.response)
    if standardize:
        notes.append("Features are standardized: coefficients are per standard deviation.")
    if standardize and gaussian:
        mean, scale = float(y.mean()), float(y.std())
        if scale == 0.0:
            raise ValueError(f"The response {table.response_name!r} is constant and can't be standardized.")
        y = (y - mean) / scale
        notes.append(f"The response is standardized too: ({table.response_name} - {mean:.6g}) / {scale:.6g}.")
    return Dataset(x=x, y=y), notes


def _print_summary(posterior: Posterior, table: Table | Columns, net: AmortizedPosterior) -> None:
    """The summary as a plain table, the features named beside their coefficients; of mixtures in one order."""
    mixture = None if net.task.responsibilities is None else posterior.mixture()
    draws, labels = posterior.target_matrix() if mixture is None else mixture.target_matrix()
    quantiles = np.quantile(draws, [0.05, 0.5, 0.95], axis=0)
    spread = draws.std(axis=0, ddof=1) if len(draws) > 1 else np.zeros(len(labels))
    names = [_named(label, table) for label in labels]
    width = max(12, *(len(name) for name in names))
    print(f"Posterior of {net.task.name} by {net.label} given {table.num_rows} rows of {table.name}")
    print(f"{'':<{width}}" + "".join(f"{head:>11}" for head in ("mean", "sd", "5%", "50%", "95%")))
    for index, name in enumerate(names):
        values = (draws[:, index].mean(), spread[index], *quantiles[:, index])
        print(f"{name:<{width}}" + "".join(f"{value:>11.4g}" for value in values))
    if mixture is not None:
        shares = ", ".join(f"{count}: {share:.2f}" for count, share in mixture.num_occupied().items())
        print(f"Components that hold rows, with probabilities: {shares}")
        if mixture.agreement < MIN_AGREEMENT:
            print(
                f"note: draws disagree about which row belongs to which component (agreement {mixture.agreement:.2f}); "
                "summaries by component mix different clusterings. Which rows belong together is better read from "
                "Posterior.mixture().co_assignment()."
            )


def _print_certificate(posterior: Posterior) -> None:
    certificate = posterior.certificate()
    print(f"certificate: {certificate}")
    for step in certificate.path:
        outcome = "passed" if step.passed else "failed"
        print(f"  {step.name}: {outcome} in {step.seconds:.2f} s" + (f" ({step.remark})" if step.remark else ""))


def _named(label: str, table: Table | Columns) -> str:
    for index, column in enumerate(table.columns):
        if label == f"beta[{index}]" or (label.startswith(("mu[", "sigma2[")) and label.endswith(f", {index}]")):
            return f"{label} {column}"
    return label


def write_draws(posterior: Posterior, path: Path) -> None:
    """Write draws: ``.csv`` one column per coordinate, ``.npz`` one array per site, ``.nc`` for ArviZ."""
    if path.suffix == ".nc":
        posterior.to_inference_data().to_netcdf(str(path))
    elif path.suffix == ".npz":
        np.savez(path, **posterior.sites)  # pyright: ignore[reportArgumentType]
    else:
        draws, labels = posterior.target_matrix()
        np.savetxt(path, draws, delimiter=",", header=",".join(labels), comments="", fmt="%.9g")
