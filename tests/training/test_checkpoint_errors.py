"""Unusable checkpoints: each refused, with a message that says why."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from icl_bayes.training import CheckpointError, load_checkpoint


def edit_manifest(directory: Path, without: str = "", **changes) -> None:
    path = directory / "checkpoint.json"
    manifest = {**json.loads(path.read_text()), **changes}
    manifest.pop(without, None)
    path.write_text(json.dumps(manifest))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def drop_a_weight(directory: Path) -> None:
    path = directory / "weights.safetensors"
    arrays = load_file(path)
    arrays.pop(sorted(arrays)[0])
    save_file(arrays, path)


def exchange_weights(directory: Path) -> None:
    """Weights of another network of the same architecture."""
    path = directory / "weights.safetensors"
    save_file({name: value + 1.0 for name, value in load_file(path).items()}, path)


def shift_log_joint(directory: Path) -> None:
    manifest = json.loads((directory / "checkpoint.json").read_text())
    edit_manifest(directory, log_joint_at_fixed_points=[x + 0.5 for x in manifest["log_joint_at_fixed_points"]])


DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "no manifest": (lambda d: (d / "checkpoint.json").unlink(), "has no checkpoint.json"),
    "truncated manifest": (lambda d: truncate(d / "checkpoint.json"), "truncated or not JSON"),
    "foreign manifest": (
        lambda d: (d / "checkpoint.json").write_text('{"model": "other"}'),
        "not written by icl_bayes",
    ),
    "newer format": (lambda d: edit_manifest(d, format_version=99), "format 99.*Upgrade"),
    "unknown setting": (lambda d: edit_manifest(d, config={"task": {"planet": 1}}), "configuration cannot be read"),
    "truncated weights": (lambda d: truncate(d / "weights.safetensors"), "truncated or was not written"),
    "no weights": (lambda d: (d / "weights.safetensors").unlink(), "cannot be read"),
    "a weight too few": (drop_a_weight, "not those that checkpoint.json describes"),
    "mixed-up weights": (exchange_weights, "files were mixed up"),
    "no calibration": (lambda d: edit_manifest(d, without="calibration"), "lacks calibration"),
    "changed program": (shift_log_joint, "another version of task 'glm/1'"),
    "changed coordinates": (lambda d: edit_manifest(d, coordinates={"beta": "bijector"}), "another version of task"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_reported(trained, tmp_path: Path, name: str) -> None:
    damage, message = DAMAGE[name]
    directory = tmp_path / "network"
    shutil.copytree(trained[1] / "network", directory)
    load_checkpoint(directory)  # the control: intact, it loads
    damage(directory)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(directory)


def test_a_checkpoint_holds_json_and_tensors_only(trained) -> None:
    directory = trained[1] / "network"
    assert sorted(path.name for path in directory.iterdir()) == ["checkpoint.json", "weights.safetensors"]
    header = (directory / "weights.safetensors").read_bytes()[:4096]
    assert b"pickle" not in header
    assert all(np.isfinite(value).all() for value in load_checkpoint(directory).arrays.values())
