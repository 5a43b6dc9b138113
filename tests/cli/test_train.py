"""``icl-bayes train``: every experiment trains, runs resume, mistakes cost nothing."""

from __future__ import annotations

import csv
import dataclasses
import json

import jax
import pytest

from icl_bayes.cli import main
from icl_bayes.config import choices, compose
from icl_bayes.training import build_network
from icl_bayes.training.step import data_mesh, init_state, make_train_chunk

from .conftest import TINY

SMALLER = {
    # The paper's settings with the numbers that make them large taken down.
    "paper": ["training.fixed_rows=10", "training.batch_size=2", "flow.solver_steps=1"],
}


QUICK = ("paper", "informed", "joint", "fa", "gmm")
"""One of every kind of network; what compiles for long in the others is much the same, and only traced."""
EXPERIMENTS = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in choices("experiment")]


@pytest.mark.parametrize("experiment", [name for name in choices("experiment") if name not in (*QUICK, "regression")])
def test_every_other_experiment_has_a_training_step(experiment):
    """Traced, which finds all but what only numbers can show, in half the time of compiling it."""
    config = compose("train", [f"experiment={experiment}", "scenario=1", *TINY]).network()
    network = build_network(config)
    chunk = make_train_chunk(network, config.training, data_mesh(), 16)
    state, info = jax.eval_shape(chunk, init_state(network, config.training))
    assert state.step.shape == ()
    assert info.loss.shape == (config.training.steps_per_call,)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_trains_two_steps(experiment, tmp_path, capsys):
    out = tmp_path / "run"
    arguments = [f"experiment={experiment}", "scenario=1", f"out={out}", *TINY, *SMALLER.get(experiment, [])]
    assert main(["train", *arguments]) == 0
    with (out / "metrics.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert [row["step"] for row in rows] == ["2"]
    assert float(rows[0]["loss"]) > 0.0
    manifest = json.loads((out / "network" / "checkpoint.json").read_text())
    settings = compose("train", arguments)
    assert manifest["config"] == dataclasses.asdict(settings.network())
    assert f"--net {out}" in capsys.readouterr().out
    if experiment == "informed":
        again(arguments, capsys)


def again(arguments, capsys):
    """A finished run has nothing left to do; another configuration is refused."""
    assert main(["train", *arguments]) == 0
    assert "Resuming glm/1 at step 2 of 2" in capsys.readouterr().out
    assert main(["train", *arguments, "training.seed=1"]) == 2
    assert "holds a run with another configuration" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["scenario=9"], "Unknown task 'glm/9'; choices: glm/1, glm/2"),
        (["family=gml"], "Unknown task 'gml/1'; choices: glm/1"),
        (["covariates=tabula"], "Unknown covariate prior 'tabula'. Did you mean 'tabular'?"),
        (["model=smal"], "Choices of model: columns, paper, small,"),
        (["--fast"], "Unknown option '--fast'; see icl-bayes train --help"),
    ],
)
def test_mistakes_are_found_before_anything_is_written(arguments, message, tmp_path, capsys):
    out = tmp_path / "run"
    assert main(["train", f"out={out}", *arguments]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert "Traceback" not in captured.err
    assert not out.exists()


def test_settings_are_shown_without_running(capsys):
    assert main(["train", "--cfg", "scenario=5", "experiment=joint"]) == 0
    shown = capsys.readouterr().out
    assert "scenario: 5" in shown
    assert "num_moves: 0" in shown


def test_a_time_budget_becomes_a_number_of_steps(tmp_path, monkeypatch):
    from icl_bayes.training import budget

    config = compose("train", TINY).network()
    monkeypatch.setattr(budget, "seconds_per_chunk", lambda config, task: 0.5)
    timed = budget.with_budget(config, 0.1, tmp_path)
    assert timed.training.num_steps == 12 * config.training.steps_per_call
    (tmp_path / "config.json").write_text(json.dumps({"training": {"num_steps": 40}}))
    assert budget.with_budget(config, 0.1, tmp_path).training.num_steps == 40
    with pytest.raises(ValueError, match="minutes must be positive"):
        budget.with_budget(config, 0.0, tmp_path)
