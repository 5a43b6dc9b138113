"""The training loop: compiled chunks of steps, progress, metrics, atomic checkpoints, resume.

Batches are a pure function of ``(seed, step)`` and checkpoints fall between chunks, so a run that
was killed continues to bitwise the same weights (same platform and device count).
"""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from icl_bayes.provenance import collect_provenance
from icl_bayes.tasks import Task
from icl_bayes.training.checkpoint import (
    WEIGHTS_FILE,
    CheckpointError,
    flatten,
    read_arrays,
    save_checkpoint,
    unflatten,
    write_atomically,
)
from icl_bayes.training.config import NetworkConfig
from icl_bayes.training.held_out import make_held_out, make_scorer
from icl_bayes.training.network import Network, build_network
from icl_bayes.training.step import (
    TrainChunk,
    TrainState,
    batch_size_of,
    bucket_of,
    data_mesh,
    init_state,
    make_train_chunk,
)
from icl_bayes.training.training_range import training_range

METRIC_FIELDS = (
    "step",
    "seconds",
    "datasets",
    "loss",
    "gradient_norm",
    "acceptance",
    "kept",
    "held_out_c2st",
    "laplace_c2st",
    "gaussian_c2st",
)
STATE_PREFIX = "state-"


@dataclasses.dataclass
class Progress:
    """Counters that continue over resumptions."""

    seconds: float = 0.0
    datasets: int = 0
    compile_seconds: float = 0.0


def fit(
    config: NetworkConfig,
    run_dir: str | Path,
    *,
    task: Task | None = None,
    console: Console | None = None,
    evaluate: bool = True,
    stop_after_steps: int | None = None,
    on_chunk: Callable[[int], None] | None = None,
) -> Path:
    """Train a network, or continue a run that was interrupted.

    Args:
        config: everything about the network; a directory that holds a run with another
            configuration is refused.
        task: what ``config.task`` builds, where it is at hand.
        run_dir: receives ``metrics.csv``, ``state-*`` (resume) and ``network`` (weights).
        evaluate: compute the periodic held-out C2ST.
        stop_after_steps: end early, after the chunk that reaches this step (the schedule is unchanged),
            leaving a resumable state.
        on_chunk: called with the step after every chunk (tests).

    Returns:
        The directory of the trained network, ``run_dir / "network"``.

    Raises:
        CheckpointError: if ``run_dir`` holds another run, or an unreadable state.
    """
    console = console or Console()
    run_dir = Path(run_dir)
    network = build_network(config, task)  # first: a configuration that is refused must not claim the directory
    run_dir.mkdir(parents=True, exist_ok=True)
    _claim(run_dir, config)
    settings = config.training
    mesh = data_mesh()
    state, progress = _restore(run_dir, network, config)
    is_main = jax.process_index() == 0
    if int(state.step) and is_main:
        console.print(f"Resuming {config.task.name} at step {int(state.step)} of {settings.num_steps}.")
    if is_main:
        _remove_debris(run_dir, int(state.step))

    scorer, laplace_c2st, gaussian_c2st = None, float("nan"), float("nan")
    if evaluate and is_main:
        held_out = make_held_out(network, config)
        scorer = make_scorer(network, held_out, config.flow.make_solver())
        laplace_c2st, gaussian_c2st = held_out.laplace_c2st, held_out.gaussian_c2st
        console.print(
            f"Held-out C2ST (0.5 is perfect): Laplace approximation {laplace_c2st:.3f}, "
            f"closest Gaussian {gaussian_c2st:.3f}"
        )

    programs: dict[int, TrainChunk] = {}
    last_saved = time.monotonic()
    end = min(settings.num_steps, stop_after_steps or settings.num_steps)
    while int(state.step) < end:
        chunk = int(state.step) // settings.steps_per_call
        padded_rows = bucket_of(settings, chunk)
        if padded_rows not in programs:
            if is_main:
                console.print(f"Compiling the training steps for up to {padded_rows} rows.")
            started = time.monotonic()
            programs[padded_rows] = make_train_chunk(network, settings, mesh, padded_rows).compile(state)
            progress.compile_seconds += time.monotonic() - started
        started = time.monotonic()
        state, info = programs[padded_rows](state)
        info = jax.tree.map(lambda leaf: float(np.mean(leaf)), info)
        progress.seconds += time.monotonic() - started
        visits = settings.steps_per_call * batch_size_of(settings, padded_rows, mesh.devices.size)
        progress.datasets += visits // settings.passes
        step = int(state.step)
        score = float("nan")
        if scorer is not None and (step % settings.evaluate_steps < settings.steps_per_call or step >= end):
            score = scorer(state.ema)
        if is_main:
            row = (step, progress.seconds, progress.datasets, *info, score, laplace_c2st, gaussian_c2st)
            _append_metrics(run_dir / "metrics.csv", row)
            _report(console, settings.num_steps, progress, row)
            overdue = time.monotonic() - last_saved > 60.0 * settings.checkpoint_minutes
            if overdue or step >= end:
                _save_state(run_dir, state, progress)
                last_saved = time.monotonic()
        if on_chunk is not None:
            on_chunk(step)

    directory = run_dir / "network"
    if is_main:
        save_network(directory, network, state, progress)
        plot_metrics(run_dir)
        console.print(f"Network written to {directory}")
    return directory


def save_network(directory: Path, network: Network, state: TrainState, progress: Progress) -> None:
    """Write the averaged weights with provenance and the statistics of the training range."""
    provenance = {
        **dataclasses.asdict(collect_provenance()),
        "seed": network.config.training.seed,
        "steps": int(state.step),
        "datasets": progress.datasets,
        "hours": progress.seconds / 3600.0,
        "compile_hours": progress.compile_seconds / 3600.0,
        "devices": [device.device_kind for device in jax.devices()],
    }
    save_checkpoint(
        directory,
        network.config,
        network.task,
        state.ema,
        provenance=provenance,
        calibration=training_range(network),
    )


def plot_metrics(run_dir: Path) -> Path:
    """Plot loss, and held-out C2ST if any was measured, of a run to ``training.png``; returns its path."""
    import matplotlib

    matplotlib.use("Agg", force=False)
    import matplotlib.pyplot as plt

    rows = read_metrics(run_dir / "metrics.csv")
    scored = np.isfinite(rows["held_out_c2st"])
    num_panels = 1 + bool(scored.any())
    figure, axes = plt.subplots(1, num_panels, figsize=(4.5 * num_panels, 3.4), layout="constrained", squeeze=False)
    left = axes[0, 0]
    left.plot(rows["step"], rows["loss"], color="#0072B2", linewidth=1.0)
    scale = "log" if np.all(rows["loss"] > 0.0) else "linear"
    left.set(xlabel="step", ylabel="loss", title="Training loss", yscale=scale)
    if scored.any():
        right = axes[0, 1]
        right.plot(
            rows["seconds"][scored] / 60.0, rows["held_out_c2st"][scored], "o-", color="#D55E00", label="network"
        )
        if np.isfinite(rows["laplace_c2st"]).any():
            right.axhline(np.nanmean(rows["laplace_c2st"]), color="#009E73", linestyle="--", label="Laplace")
            right.axhline(np.nanmean(rows["gaussian_c2st"]), color="#CC79A7", linestyle=":", label="closest Gaussian")
        right.axhline(0.5, color="black", linewidth=0.8, label="perfect")
        right.set(xlabel="minutes of training", ylabel="C2ST", title="Held-out C2ST against exact-start draws")
        right.legend(frameon=False)
    path = run_dir / "training.png"
    figure.savefig(path, dpi=130)
    plt.close(figure)
    return path


def read_metrics(path: Path) -> dict[str, np.ndarray]:
    """Columns of ``metrics.csv`` by name."""
    with path.open() as handle:
        rows = list(csv.DictReader(handle))
    return {name: np.asarray([float(row[name]) for row in rows]) for name in METRIC_FIELDS}


# -------------------------------------------------------------------- files of a run


def _claim(run_dir: Path, config: NetworkConfig) -> None:
    """Store the configuration of a new run, or check that an old one is the same."""
    path = run_dir / "config.json"
    text = json.dumps(dataclasses.asdict(config), indent=2, sort_keys=True)
    if not path.exists():
        staging = path.with_suffix(".tmp")
        staging.write_text(text)
        staging.replace(path)
        return
    if json.loads(path.read_text()) != json.loads(text):
        raise CheckpointError(
            f"{run_dir} holds a run with another configuration (see its config.json). Choose another directory, "
            "or delete this one to start afresh."
        )


def _save_state(run_dir: Path, state: TrainState, progress: Progress) -> None:
    step = int(state.step)
    directory = run_dir / f"{STATE_PREFIX}{step:09d}"
    write_atomically(
        directory,
        {
            "state.safetensors": flatten(jax.device_get(state)),
            "progress.json": json.dumps(dataclasses.asdict(progress)),
        },
    )
    for old in sorted(run_dir.glob(f"{STATE_PREFIX}*"))[:-2]:
        shutil.rmtree(old)


def _restore(run_dir: Path, network: Network, config: NetworkConfig) -> tuple[TrainState, Progress]:
    fresh = init_state(network, config.training)
    saved = sorted(run_dir.glob(f"{STATE_PREFIX}*"))
    if not saved and config.training.start_from:
        source = Path(config.training.start_from)
        params = unflatten(fresh.params, read_arrays(source / WEIGHTS_FILE), str(source))
        return fresh._replace(params=params, ema=jax.tree.map(jnp.copy, params)), Progress()
    if not saved:
        return fresh, Progress()
    directory = saved[-1]
    try:
        progress = Progress(**json.loads((directory / "progress.json").read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(
            f"{directory} cannot be read ({error}); delete it to resume from an older state."
        ) from error
    state = unflatten(fresh, read_arrays(directory / "state.safetensors"), str(directory))
    return state, progress


def _append_metrics(path: Path, row: tuple[float, ...]) -> None:
    new = not path.exists()
    with path.open("a", newline="") as handle:
        writer = csv.writer(handle)
        if new:
            writer.writerow(METRIC_FIELDS)
        writer.writerow(row)


def _remove_debris(run_dir: Path, step: int) -> None:
    """What a killed run left behind: half-written states, metrics after the restored step, a torn line.

    Rows after the restored step will be computed again. A row is complete before the state of its
    step is saved, so no torn one is kept.
    """
    for unfinished in run_dir.glob(f".{STATE_PREFIX}*"):
        shutil.rmtree(unfinished)
    path = run_dir / "metrics.csv"
    if not path.exists():
        return
    kept = [
        line
        for line in path.read_text().splitlines()
        if line.count(",") == len(METRIC_FIELDS) - 1
        and line.split(",")[0].isdigit()
        and int(line.split(",")[0]) <= step
    ]
    staging = path.with_suffix(".tmp")
    staging.write_text("\n".join([",".join(METRIC_FIELDS), *kept]) + "\n")
    staging.replace(path)


def _report(console: Console, num_steps: int, progress: Progress, row: tuple[float, ...]) -> None:
    step, seconds, datasets, loss = int(row[0]), row[1], int(row[2]), row[3]
    remaining = seconds / step * (num_steps - step)
    score = (
        ""
        if np.isnan(row[7])
        else f"  held-out C2ST {row[7]:.3f} (Laplace {row[8]:.3f}, closest Gaussian {row[9]:.3f})"
    )
    if score or console.is_terminal or step % (num_steps // 20 or 1) < 20 or step == num_steps:
        console.print(
            f"step {step}/{num_steps}  loss {loss:.4f}  {datasets / max(seconds, 1e-9):,.0f} data sets/s  "
            f"elapsed {seconds / 60:.1f} min  ETA {remaining / 60:.1f} min{score}",
            highlight=False,
        )
