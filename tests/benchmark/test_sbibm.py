"""Models of the benchmark against what is published of them, its metric, and the table on files made up here."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from helpers import joint_draw
from rich.console import Console
from scipy.special import ndtr

from icl_bayes.benchmark import sbibm
from icl_bayes.benchmark.settings import EvaluationConfig, ReproduceSettings
from icl_bayes.evaluation.two_sample import c2st_sbibm
from icl_bayes.examples import sbibm as models
from icl_bayes.nets import ModelConfig
from icl_bayes.training import FlowConfig, NetworkConfig, TargetsConfig, TrainingConfig

NUM_PUBLISHED = 200
METRIC = "c2st_sbibm"


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """Two observations of ``gaussian_linear`` with exact posterior draws, laid out as in the package."""
    root = tmp_path_factory.mktemp("sbibm") / "tasks"
    generator = np.random.default_rng(0)
    for number in (1, 2):
        folder = root / "gaussian_linear" / "files" / f"num_observation_{number}"
        folder.mkdir(parents=True)
        x = generator.normal(size=(1, 10)) * np.sqrt(0.2)
        draws = 0.5 * x + np.sqrt(0.05) * generator.normal(size=(NUM_PUBLISHED, 10))
        pd.DataFrame(x).to_csv(folder / "observation.csv", index=False)
        pd.DataFrame(draws).to_csv(folder / "reference_posterior_samples.csv.bz2", index=False)
    return root


# ---------------------------------------------------------------------------- models


def test_crescent_integrates_to_one_and_draws_follow_its_density():
    law = models.Crescent(jnp.asarray([0.3, -0.2]))
    across, up = np.linspace(0.3, 0.5, 801), np.linspace(-0.4, 0.0, 1601)
    grid = np.stack(np.meshgrid(across, up, indexing="ij"), axis=-1)
    density = np.exp(np.asarray(law.log_prob(jnp.asarray(grid))))
    cell = (across[1] - across[0]) * (up[1] - up[0])
    assert density.sum() * cell == pytest.approx(1.0, abs=2e-3)
    draws = np.asarray(law.sample(jax.random.key(0), (20_000,)))
    for moment in (lambda x: x[..., 0], lambda x: x[..., 1] ** 2, lambda x: x[..., 0] * x[..., 1]):
        error = moment(draws).std() / np.sqrt(len(draws))
        assert moment(draws).mean() == pytest.approx((moment(grid) * density).sum() * cell, abs=4.0 * error + 1e-4)


def test_two_moons_are_mirror_images():
    task = models.two_moons()
    theta, dataset = joint_draw(task, jax.random.key(3), 1)
    mirrored = -theta[::-1]  # the sum of the parameters changes its sign, their difference does not
    assert float(jax.jit(task.log_joint)(mirrored, dataset)) == pytest.approx(
        float(jax.jit(task.log_joint)(theta, dataset)), abs=1e-2
    )


def test_design_of_the_spike_train_has_the_published_stimulus():
    design = models.filter_design()
    assert design.shape == (100, 10)
    assert design[:3, 1] == pytest.approx([0.49671414, -0.1382643, 0.64768857])  # white noise of seed 42
    assert (design[5:, 6] == design[:-5, 1]).all()
    assert (np.linalg.eigvalsh(models.filter_precision()) > 0.0).all()


def test_gaussian_linear_has_the_conjugate_posterior():
    task = models.gaussian_linear()
    _, dataset = joint_draw(task, jax.random.key(1), 1)
    mean = 0.5 * np.asarray(dataset.rows["x"])[0]
    offsets = np.asarray(jax.random.normal(jax.random.key(2), (5, 10)))
    thetas = jnp.asarray((mean + offsets * np.sqrt(0.05)) / np.sqrt(0.1))
    heights = np.asarray(jax.jit(jax.vmap(task.log_joint, (0, None)))(thetas, dataset))
    expected = -0.5 * (offsets**2).sum(axis=1)
    assert heights - heights[0] == pytest.approx(expected - expected[0], abs=1e-3)


# ---------------------------------------------------------------------------- metric


def test_metric_is_chance_for_one_law_and_the_best_rule_for_two():
    generator = np.random.default_rng(0)
    first, second = generator.normal(size=(2, 1000, 2))
    assert c2st_sbibm(first, second) == pytest.approx(0.5, abs=0.035)
    assert c2st_sbibm(first + np.asarray([1.0, 0.0]), second) == pytest.approx(ndtr(0.5), abs=0.035)


def test_metric_refuses_what_it_cannot_compare():
    with pytest.raises(ValueError, match="NaN"):
        c2st_sbibm(np.full((10, 2), np.nan), np.zeros((10, 2)))


# ----------------------------------------------------------------------------- files


def test_observations_come_with_their_published_draws(files):
    dataset, draws = sbibm.load_observation("gaussian_linear", 2, files)
    assert dataset.rows["x"].shape == (1, 10)
    assert draws.shape == (NUM_PUBLISHED, 10)


@pytest.mark.parametrize(
    ("name", "number", "where", "match"),
    [
        ("gaussian_linear", 1, "nowhere", "pip install --no-deps sbibm"),
        ("slcp", 1, "", "install it again"),
        ("gaussian_linear", 11, "", "1 to 10; received 11"),
        ("lotka_volterra", 1, "", "choose from gaussian_linear"),
    ],
)
def test_what_is_missing_is_named(files, name, number, where, match):
    with pytest.raises((ImportError, ValueError), match=match):
        sbibm.load_observation(name, number, files / where if where else files)


# ----------------------------------------------------------------------------- table


def test_recipes_stay_within_the_published_budget():
    assert set(sbibm.RECIPES) == set(models.TASKS)
    for config in sbibm.RECIPES.values():
        assert 0 < sbibm.simulations(config) <= sbibm.MAX_SIMULATIONS


def settings(files: Path, out: Path, method: str, num_observations: int) -> ReproduceSettings:
    return ReproduceSettings(
        "sbibm",
        scenario="gaussian_linear",
        num_datasets=num_observations,
        methods=[method],
        cache_dir=str(files),
        out=str(out),
        evaluation=EvaluationConfig(workers=0),
    )


def test_table_scores_against_published_draws(files, tmp_path):
    """Laplace's approximation is the posterior itself here; no published draws are left for a floor."""
    outcome = sbibm.reproduce_sbibm(settings(files, tmp_path, "laplace", 2), Console(quiet=True))
    assert [(record.dataset, record.metric) for record in outcome.records] == [("01", METRIC), ("02", METRIC)]
    assert all(abs(record.value - 0.5) < 0.1 and np.isnan(record.floor) for record in outcome.records)
    assert {record.num_draws for record in outcome.records} == {NUM_PUBLISHED}
    assert "C2ST as in sbibm" in (tmp_path / "tables.md").read_text()


@pytest.mark.slow
def test_table_trains_a_network_once(files, tmp_path, monkeypatch):
    small = ModelConfig(width=8, heads=2, feedforward=8, decoder_blocks=1, base="laplace", inputs="theta")
    flow = FlowConfig(loss="flow_matching", solver="midpoint")
    training = TrainingConfig(num_steps=8, steps_per_call=8, batch_size=8, passes=8)
    recipe = NetworkConfig(model=small, flow=flow, targets=TargetsConfig(num_draws=1, num_moves=0), training=training)
    monkeypatch.setitem(sbibm.RECIPES, "gaussian_linear", recipe)
    written = []
    for _ in range(2):
        outcome = sbibm.reproduce_sbibm(settings(files, tmp_path, "icl", 1), Console(quiet=True))
        (record,) = outcome.records
        assert abs(record.value - 0.5) < 0.1  # its base is the posterior, whatever it has learned in eight steps
        written.append(next(tmp_path.rglob("weights.safetensors")).stat().st_mtime_ns)
    assert written[0] == written[1]


def test_unknown_task_is_refused(tmp_path):
    with pytest.raises(ValueError, match="covers gaussian_linear"):
        sbibm.reproduce_sbibm(ReproduceSettings("sbibm", scenario="sir", out=str(tmp_path)), Console(quiet=True))
