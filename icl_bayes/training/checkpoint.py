"""Checkpoints: one directory of configuration, weights, format version and provenance.

A directory appears under its final name only when complete (written beside, then renamed), holds
no pickled object, and remembers the log joint at fixed points: a program that has changed since is
refused on load, because its draws would come from another posterior than the network learned.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from icl_bayes.tasks import CUSTOM, Task
from icl_bayes.training.config import NetworkConfig, from_dict

FORMAT_VERSION = 1
FORMAT_NAME = "icl_bayes network"
MANIFEST = "checkpoint.json"
WEIGHTS_FILE = "weights.safetensors"
REQUIRED = ("config", "coordinates", "log_joint_at_fixed_points", "weights", "calibration", "provenance")
FINGERPRINT_TOLERANCE = 2e-3  # relative; float32 log joints differ across platforms by far less


class CheckpointError(ValueError):
    """A checkpoint is missing, truncated, foreign, newer than this package, or for a changed program."""


def flatten(tree: Any) -> dict[str, np.ndarray]:
    """Arrays of a pytree by path, e.g. ``params/encoder/...``."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf) for path, leaf in leaves}


def unflatten(template: Any, arrays: dict[str, np.ndarray], source: str) -> Any:
    """A pytree like ``template`` with the given arrays; names and shapes must agree."""
    names = list(flatten(jax.tree.map(lambda leaf: np.zeros(()), template)))
    leaves, structure = jax.tree.flatten(template)
    missing = sorted(set(names) - set(arrays))
    if missing or len(arrays) != len(names):
        extra = sorted(set(arrays) - set(names))
        raise CheckpointError(
            f"{source} does not fit its configuration: missing {missing[:3]}, unexpected {extra[:3]}."
        )
    restored = []
    for name, leaf in zip(names, leaves, strict=True):
        if arrays[name].shape != leaf.shape:
            raise CheckpointError(f"{source}: {name} has shape {arrays[name].shape}, expected {leaf.shape}.")
        restored.append(jnp.asarray(arrays[name], leaf.dtype))
    return jax.tree.unflatten(structure, restored)


def fingerprint(task: Task) -> list[float]:
    """The log joint at fixed points of a fixed data set: changes when the program does."""
    generator = np.random.default_rng(20240)
    thetas = generator.normal(0.0, 0.5, size=(3, task.dim)).astype(np.float32)
    values = jax.jit(jax.vmap(task.log_joint, in_axes=(0, None)))(thetas, task.example)
    return [float(value) for value in values]


def write_atomically(directory: Path, files: dict[str, Any]) -> None:
    """Write a directory of files (``bytes``, ``str`` or ``{name: array}``) under its name in one rename."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
    try:
        for name, content in files.items():
            path = staging / name
            if isinstance(content, dict):
                # Not ascontiguousarray, which turns scalars into vectors.
                save_file({key: np.asarray(value, order="C") for key, value in content.items()}, path)
            else:
                path.write_bytes(content if isinstance(content, bytes) else content.encode())
            with path.open("rb") as handle:
                os.fsync(handle.fileno())
        staging.chmod(0o755)
        if directory.exists():
            discarded = directory.with_name(f".{directory.name}.old")
            shutil.rmtree(discarded, ignore_errors=True)
            directory.rename(discarded)
            staging.rename(directory)
            shutil.rmtree(discarded, ignore_errors=True)
        else:
            staging.rename(directory)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Arrays of a safetensors file, or a CheckpointError that says what is wrong with it."""
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} cannot be read ({error}); the file is truncated or was not written by icl_bayes. "
            "Copy the checkpoint again, or resume from an older one."
        ) from error


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint directory says.

    Attributes:
        config: architecture, task, flow, targets and training settings.
        arrays: weights by name.
        provenance: commit, seed, hardware, hours, data sets seen, versions.
        calibration: statistics of the training range (see ``inference``).
        identity: short hash of the weights, used in records.
        task: what the configuration builds, checked against the program it was trained for.
    """

    config: NetworkConfig
    arrays: dict[str, np.ndarray]
    provenance: dict[str, Any]
    calibration: dict[str, Any]
    identity: str
    task: Task


def save_checkpoint(
    directory: str | Path,
    config: NetworkConfig,
    task: Task,
    params: Any,
    *,
    provenance: dict[str, Any],
    calibration: dict[str, Any],
    dtype: str = "float32",
) -> Path:
    """Write a network to a directory; returns it.

    Args:
        dtype: ``float32``, or ``float16`` to halve the size of shipped weights.
    """
    arrays = {name: value.astype(dtype) for name, value in flatten(params).items()}
    manifest = {
        "format": FORMAT_NAME,
        "format_version": FORMAT_VERSION,
        "config": dataclasses.asdict(config),
        "coordinates": task.coordinate_names,
        "log_joint_at_fixed_points": fingerprint(task),
        "weights": identity_of(arrays),
        "num_weights": int(sum(value.size for value in arrays.values())),
        "calibration": calibration,
        "provenance": provenance,
    }
    directory = Path(directory)
    text = json.dumps(manifest, indent=2, sort_keys=True)
    write_atomically(directory, {MANIFEST: text, WEIGHTS_FILE: arrays})
    return directory


def load_checkpoint(directory: str | Path, task: Task | None = None) -> Checkpoint:
    """Read a checkpoint directory.

    Args:
        task: what the network was trained for, if it is a task of one's own: no code is imported from an address
            that a file contains.

    Raises:
        CheckpointError: with what was found and what to do.
    """
    directory = Path(directory)
    manifest_path = directory / MANIFEST
    if not manifest_path.is_file():
        raise CheckpointError(f"{directory} is no checkpoint: it has no {MANIFEST}.")
    try:
        manifest = json.loads(manifest_path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(
            f"{manifest_path} is truncated or not JSON ({error}); copy the checkpoint again."
        ) from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT_NAME:
        raise CheckpointError(f"{directory} was not written by icl_bayes (format {FORMAT_NAME!r} expected).")
    version = manifest.get("format_version")
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"{directory} has checkpoint format {version}; this version of icl_bayes reads {FORMAT_VERSION}. "
            "Upgrade icl_bayes to load a newer checkpoint, or retrain an older one."
        )
    missing = [name for name in REQUIRED if name not in manifest]
    if missing:
        raise CheckpointError(
            f"{manifest_path} lacks {', '.join(missing)}: it is incomplete, or of an earlier version. "
            "Copy it again, or retrain."
        )
    try:
        config = from_dict(manifest["config"])
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{directory}: its configuration cannot be read ({error}).") from error
    arrays = read_arrays(directory / WEIGHTS_FILE)
    identity = identity_of(arrays)
    if manifest["weights"] != identity:
        raise CheckpointError(
            f"{directory}: the weights are not those that {MANIFEST} describes (fingerprint {identity} instead of "
            f"{manifest['weights']}); files were mixed up."
        )
    if config.task.family == CUSTOM and task is None:
        raise CheckpointError(
            f"{directory} holds a network for a model of your own, {config.task.program!r}, and code is not imported "
            "because a file says so. Hand the task over: load(directory, task=task), or --task module:name."
        )
    task = task or config.task.build()
    _check_program(directory, manifest, task)
    return Checkpoint(config, arrays, manifest["provenance"], manifest["calibration"], identity, task)


def identity_of(arrays: dict[str, np.ndarray]) -> str:
    """Fingerprint of weights, by which tables name a network."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(name.encode())
        digest.update(arrays[name].tobytes())
    return digest.hexdigest()[:10]


def _check_program(directory: Path, manifest: dict[str, Any], task: Task) -> None:
    stored, current = manifest["log_joint_at_fixed_points"], fingerprint(task)
    same_coordinates = manifest["coordinates"] == task.coordinate_names
    if not same_coordinates or not np.allclose(stored, current, rtol=FINGERPRINT_TOLERANCE, atol=FINGERPRINT_TOLERANCE):
        raise CheckpointError(
            f"{directory} was trained for another version of task {task.name!r}: its log joint at fixed points is "
            f"{stored}, the present program gives {current} (coordinates {manifest['coordinates']} against "
            f"{task.coordinate_names}). Retrain, or use the version of icl_bayes that wrote it."
        )


__all__ = ["Checkpoint", "CheckpointError", "load_checkpoint", "save_checkpoint"]
