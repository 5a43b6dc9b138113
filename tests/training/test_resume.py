"""A run that was killed ends with bitwise the weights of one that was not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from icl_bayes.training import CheckpointError, fit, load_checkpoint
from icl_bayes.training.fit import read_metrics
from training.conftest import simple_config, tiny_config

SCRIPT = """
import sys, time
sys.path.insert(0, sys.argv[2])
from training.conftest import simple_config
from icl_bayes.training import fit
def wait(step):
    print(step, flush=True)
    if step >= 6:
        time.sleep(600)  # the parent kills this process here
fit(simple_config(), sys.argv[1], evaluate=False, on_chunk=wait)
"""


def weights(run_dir: Path) -> dict[str, np.ndarray]:
    return load_checkpoint(run_dir / "network").arrays


def assert_same_weights(first: Path, second: Path) -> None:
    one, two = weights(first), weights(second)
    assert one.keys() == two.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], two[name], err_msg=name)


def test_resume_after_kill_nine_is_bitwise_the_same(trained, tmp_path: Path) -> None:
    config, uninterrupted = trained
    tests = str(Path(__file__).parents[1])
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(tmp_path), tests], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    deadline = time.monotonic() + 300
    for line in process.stdout:
        if line.strip() == "6" or time.monotonic() > deadline:
            break
    os.kill(process.pid, signal.SIGKILL)
    process.stdout.close()
    process.wait()
    assert not (tmp_path / "network").exists()
    # A torn metrics line and a half-written state, as a kill at the wrong moment leaves them.
    with (tmp_path / "metrics.csv").open("a") as handle:
        handle.write("8,0.1,3")
    (tmp_path / ".state-000000099.x1").mkdir()

    fit(config, tmp_path, evaluate=False)

    assert_same_weights(uninterrupted, tmp_path)
    steps = read_metrics(tmp_path / "metrics.csv")["step"]
    np.testing.assert_array_equal(steps, np.arange(2, 13, 2))
    losses = [read_metrics(run / "metrics.csv")["loss"] for run in (uninterrupted, tmp_path)]
    np.testing.assert_array_equal(*losses)


def test_another_seed_gives_other_weights(trained, tmp_path: Path) -> None:
    """Negative control of the comparison above."""
    fit(simple_config(seed=1), tmp_path, evaluate=False)
    with pytest.raises(AssertionError):
        assert_same_weights(trained[1], tmp_path)


def test_a_directory_with_another_run_is_refused(trained) -> None:
    with pytest.raises(CheckpointError, match="another configuration"):
        fit(simple_config(seed=5), trained[1], evaluate=False)


def test_provenance_and_configuration_are_recorded(trained) -> None:
    manifest = json.loads((trained[1] / "network" / "checkpoint.json").read_text())
    assert manifest["provenance"]["steps"] == 12
    assert manifest["provenance"]["datasets"] > 0
    assert manifest["provenance"]["hours"] > 0
    assert manifest["config"]["task"]["num_columns"] == 2
    assert (trained[1] / "training.png").stat().st_size > 5000


def test_a_configuration_that_is_refused_leaves_no_directory(tmp_path: Path) -> None:
    """Otherwise the corrected command would meet a directory that another configuration holds."""
    wrong = tiny_config(model={"summaries": True})
    with pytest.raises(ValueError, match="summaries=true is for tasks that summarize"):
        fit(wrong, tmp_path / "run", evaluate=False)
    assert not (tmp_path / "run").exists()


def test_a_run_starts_from_the_weights_of_another(trained, tmp_path: Path) -> None:
    """With a learning rate of nothing it ends where the other did; without a start it would not."""
    _, source = trained
    still = {"num_steps": 2, "learning_rate": 1e-30, "ema_decay": 0.0}
    fit(simple_config(**still, start_from=str(source / "network")), tmp_path / "from", evaluate=False)
    assert_same_weights(source, tmp_path / "from")
    with pytest.raises(CheckpointError, match="cannot be read"):
        fit(simple_config(**still, start_from=str(tmp_path / "nowhere")), tmp_path / "lost", evaluate=False)
