"""Configurations compose, and mistakes are explained with the choices there are."""

from __future__ import annotations

import dataclasses

import pytest

from icl_bayes.benchmark.scenario_names import scenarios_of
from icl_bayes.benchmark.settings import (
    BaselineConfig,
    NutsOptions,
    ParallelHmcOptions,
    VariationalOptions,
)
from icl_bayes.config import ConfigError, choices, compose, config_dir, groups_of
from icl_bayes.config.files import COMMANDS

REQUIRED = {
    "sample": ["file=a.csv", "target=y", "net=glm/1"],
    "glm": ["file=a.csv", "formula=y"],
    "reproduce": ["table=12"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_composes_with_its_defaults(command):
    compose(command, REQUIRED.get(command, []))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_choice_of_every_group_composes(command):
    for group in groups_of(command):
        for choice in choices(group):
            given = {"csv": ["data.path=a.csv", "data.target=y"], "custom": ["task.program=models:mine"]}
            needed = given.get(choice, [])
            # Not every model goes with every loss; experiments name the pairs that do.
            if group in ("model", "flow"):
                needed = ["flow=cosine_matching"] if group == "model" else ["model=small"]
            compose(command, [*REQUIRED.get(command, []), f"{group}={choice}", *needed])


@pytest.mark.parametrize(
    ("experiment", "base", "inputs", "num_moves"),
    [
        ("informed", "variational", "theta_and_score", 1),
        ("laplace", "laplace", "theta", 1),
        ("gaussian", "gaussian", "theta", 1),
        ("exact_start", "standard", "theta", 1),
        ("joint", "standard", "theta", 0),
        ("denoised", "standard", "theta_and_denoised", 0),
        ("paper", "standard", "theta", 0),
    ],
)
def test_experiments_are_what_they_are_called(experiment, base, inputs, num_moves):
    settings = compose("train", [f"experiment={experiment}", "scenario=5"])
    assert settings.variant == experiment
    assert settings.out == f"runs/glm-5-{experiment}"
    assert (settings.model.base, settings.model.inputs) == (base, inputs)
    assert settings.targets.num_moves == num_moves
    assert bool(settings.targets.num_draws > 1) == bool(num_moves)


def test_mixtures_start_from_their_modes_or_correct_their_em_steps():
    kinds = {"gmm": ("modes", "theta_and_score"), "gmm_overlapping": ("standard", "theta_and_denoised")}
    for experiment, kind in kinds.items():
        settings = compose("train", [f"experiment={experiment}", "scenario=2"])
        assert settings.variant == "informed"
        assert (settings.model.base, settings.model.inputs) == kind
        assert (settings.model.layout, settings.flow.loss) == ("component", "stein_target")


def test_paper_experiment_is_the_published_recipe():
    settings = compose("train", ["experiment=paper"])
    training = settings.training
    assert (training.num_steps, training.batch_size, training.fixed_rows) == (36_600, 1024, 50)
    assert (training.learning_rate, training.l2, training.clip_norm) == (5e-4, 1e-5, 1.0)
    assert (settings.model.width, settings.model.encoder_layers, settings.model.decoder_blocks) == (512, 8, 6)
    assert settings.task.hyperprior == "fixed"


def test_an_override_beats_the_experiment():
    settings = compose("train", ["experiment=joint", "model=small_gaussian", "model.width=32"])
    assert (settings.model.base, settings.model.width) == ("gaussian", 32)


def test_short_forms_reach_the_settings_they_stand_for():
    settings = compose("train", ["task=glm", "scenario=5", "seed=3", "num_steps=80", "covariates=uniform"])
    assert (settings.task.scenario, settings.training.seed) == (5, 3)
    assert (settings.training.num_steps, settings.task.covariates) == (80, "uniform")


@pytest.mark.parametrize("scenario", ["scenario=5", "scenario=[5]"])
def test_a_single_scenario_or_method_is_a_list_of_one(scenario):
    settings = compose("evaluate", [scenario, "methods=icl/laplace@2"])
    assert settings.scenarios == ["5"]
    assert settings.method_list == ["icl/laplace@2"]


def test_all_scenarios():
    assert scenarios_of("glm", "all") == list("1234567")
    assert scenarios_of("glm", [3, 3, "1"]) == ["3", "1"]


@pytest.mark.parametrize(
    ("command", "overrides", "message"),
    [
        ("train", ["model=smal"], r"no model 'smal'. Did you mean 'small'\? Choices of model: columns, paper, small,"),
        (
            "train",
            ["experiment=x"],
            r"no experiment 'x'. Choices of experiment: denoised, efa, exact_start, fa, fa_exact_start,",
        ),
        ("train", ["model=small,larg"], r"no model 'larg'"),
        ("train", ["training.num_step=4"], r"Did you mean 'training.num_steps'\? Settings under training: num_steps"),
        ("train", ["trainin.num_steps=4"], r"Did you mean 'training.num_steps'\? Settings of train: task, model"),
        ("train", ["senario=4"], r"no setting 'senario'. .*scenario"),
        ("train", ["training.num_steps.x=4"], r"'training.num_steps' has no parts"),
        ("train", ["+extra=1"], r"no setting 'extra'"),
        ("train", ["training.num_steps=many"], r"'many' of type 'str' could not be converted to Integer"),
        ("train", ["training.num_steps=7"], r"must be a multiple of training.steps_per_call \(80"),
        ("train", ["model.encoder=lstm"], r"model.encoder must be one of .*'inducing'.* received 'lstm'"),
        ("train", ["flow.solver=rk5"], r"Unknown solver method 'rk5'; choices"),
        ("train", ["model=small_standard"], r"flow.loss=target_score needs model.base=laplace"),
        ("train", ["minutes=-1"], r"minutes must not be negative"),
        ("train", ["minutes=1", "distributed=true"], r"set training.num_steps"),
        ("train", ["small"], r"'small' is no setting; write NAME=VALUE"),
        ("train", ["training.row_buckets=[1"], r"\[1"),
        ("evaluate", ["data=real"], r"no data 'real'. Choices of data: bundled, csv, openml336, synthetic"),
        ("evaluate", ["data=csv"], r"data.path=FILE and data.target=COLUMN"),
        ("evaluate", ["num_datasets=0"], r"num_datasets must be at least 1"),
        ("evaluate", ["methods=[]"], r"methods is empty"),
        ("evaluate", ["baseline.nuts.warmup=9"], r"Did you mean 'baseline.nuts.num_warmup'"),
        ("reproduce", [], r"Required and not given: table=..."),
        ("reproduce", ["table=12", "preset=fast"], r"no preset 'fast'. Choices of preset: paper, quick"),
        ("reproduce", ["table=12", "real=uci"], r"real must be bundled or openml336"),
        ("sample", ["target=y"], r"Required and not given: file=..., net=..."),
        ("fit", [], r"no command 'fit'; choices: train, sample, glm, evaluate, reproduce, calibrate, demo"),
    ],
)
def test_mistakes_are_explained(command, overrides, message):
    with pytest.raises(ConfigError, match=message):
        compose(command, overrides)


def test_an_unknown_scenario_lists_those_there_are():
    settings = compose("evaluate", ["scenario=[1,9]"])
    with pytest.raises(
        ValueError, match="Unknown scenario.* 9 of family 'glm'; choices: 1, 2, 3, 4, 5, 6, 7, or 'all'"
    ):
        _ = settings.scenarios


def test_files_are_found_in_a_wheel_too(tmp_path, monkeypatch):
    from icl_bayes.config import files

    (tmp_path / "icl_bayes" / "configs").mkdir(parents=True)
    monkeypatch.setattr(files, "__file__", str(tmp_path / "icl_bayes" / "config" / "files.py"))
    with pytest.raises(FileNotFoundError, match="reinstall"):
        config_dir()
    (tmp_path / "icl_bayes" / "configs" / "train.yaml").touch()
    assert config_dir() == tmp_path / "icl_bayes" / "configs"


def test_options_of_baselines_are_the_samplers_own():
    """Defaults must agree, or a table would be labelled with settings that were not used."""
    from icl_bayes.baselines import NutsSampler, ParallelHmcSampler, VariationalSampler

    pairs = [(NutsOptions, NutsSampler), (VariationalOptions, VariationalSampler)]
    for options, sampler in [*pairs, (ParallelHmcOptions, ParallelHmcSampler)]:
        own = {item.name: item.default for item in dataclasses.fields(sampler)}
        for item in dataclasses.fields(options):
            assert own[item.name] == item.default, (sampler.__name__, item.name)


def test_only_changed_options_are_passed_on():
    settings = BaselineConfig(nuts=NutsOptions(num_warmup=100))
    assert settings.changes("nuts") == settings.changes("nuts_jit") == {"num_warmup": 100}
    assert settings.changes("vi_full") == settings.changes("laplace") == settings.changes("parallel_hmc@5") == {}


def test_a_task_of_ones_own_by_address():
    address = "icl_bayes.examples.eight_schools:task"
    train = compose("train", [f"task={address}"])
    assert (train.task.family, train.task.program) == ("custom", address)
    assert train.out == "runs/task-informed"
    assert train.task.name == f"custom/{address}"
    assert compose("train", [f"task={address}", "out=runs/here"]).out == "runs/here"
    evaluate = compose("evaluate", [f"task={address}"])
    assert (evaluate.family, evaluate.scenarios) == ("custom", [address])
    assert compose("sample", ["file=a.csv", "net=runs/x", f"task={address}"]).program == address
    with pytest.raises(ConfigError, match=r"task\.program=module:name belong together"):
        compose("train", ["task.family=custom"])
