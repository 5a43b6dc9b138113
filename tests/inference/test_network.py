"""The public posterior: invariances of its draws, few compilations, clear refusals."""

from __future__ import annotations

import dataclasses
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import moved_weights
from training.conftest import tiny_config

import icl_bayes
from icl_bayes.baselines.programs import ProgramCache
from icl_bayes.flow import Path, Solver
from icl_bayes.inference import AmortizedPosterior
from icl_bayes.inference.buckets import padded_length
from icl_bayes.inference.checks import outside_prior
from icl_bayes.training import CheckpointError, build_network, load_checkpoint, save_checkpoint


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> AmortizedPosterior:
    """A network with perturbed fresh weights, so that every part of it matters."""
    config = tiny_config(row_buckets=[512])
    network = build_network(config)
    path = tmp_path_factory.mktemp("net") / "network"
    calibration = {"num_rows": [10, 512], "statistics": {"log sd of feature 0": [-0.01, 0.01]}}
    params = moved_weights(network.init(0), 0.05)
    save_checkpoint(path, config, network.task, params, provenance={}, calibration=calibration)
    return AmortizedPosterior.from_checkpoint(load_checkpoint(path), "tiny")


def data(num_rows: int, seed: int = 0) -> icl_bayes.Dataset:
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(num_rows, 2))
    return icl_bayes.Dataset(x=x, y=x @ [1.0, -0.5] + 0.6 * generator.normal(size=num_rows))


def test_draws_do_not_depend_on_number_or_batch(net: AmortizedPosterior) -> None:
    key = jax.random.key(1)
    many, few = net.sample(key, data(20), 60), net.sample(key, data(20), 25)
    np.testing.assert_allclose(many.theta[:25], few.theta, atol=2e-5)
    batch = net.sample_batch(key, [data(20, 1), data(27, 2)], 25)
    for index, one in enumerate((data(20, 1), data(27, 2))):
        alone = net.sample(jax.random.fold_in(key, index), one, 25)
        np.testing.assert_allclose(batch[index].theta, alone.theta, atol=2e-4)
    assert np.abs(batch[0].theta - batch[1].theta).max() > 0.01  # the control: other data, other draws


def test_draws_do_not_depend_on_padding_or_row_order(net: AmortizedPosterior) -> None:
    key, one = jax.random.key(2), data(30)
    order = np.random.default_rng(1).permutation(30)
    shuffled = icl_bayes.Dataset(x=one["x"][order], y=one["y"][order])
    plain = net.sample(key, one, 40).theta
    np.testing.assert_allclose(net.sample(key, one.pad_rows(60), 40).theta, plain, atol=2e-4)
    np.testing.assert_allclose(net.sample(key, shuffled, 40).theta, plain, atol=2e-4)


def test_fifty_sizes_cost_at_most_four_compilations(net: AmortizedPosterior) -> None:
    before = net.compilations
    for num_rows in np.linspace(10, 120, 50).astype(int):
        net.sample(jax.random.key(0), data(int(num_rows)), 7)
    assert 1 <= net.compilations - before <= 4
    assert padded_length(513) == 1024


def test_posterior_is_a_mapping_with_a_summary(net: AmortizedPosterior) -> None:
    post = net.sample(jax.random.key(3), data(25), 200)
    assert list(post) == ["beta", "sigma2"]
    assert post["beta"].shape == (200, 2)
    assert post["sigma2"].shape == (200,)
    assert (post["sigma2"] > 0).all()
    summary = post.summary(probability=0.8)
    np.testing.assert_allclose(summary.loc["beta[1]", "mean"], post["beta"][:, 1].mean(), rtol=1e-5)
    np.testing.assert_allclose(summary.loc["sigma2", "90%"], np.quantile(post["sigma2"], 0.9), rtol=1e-5)
    with pytest.raises(KeyError, match="no site 'gamma'.*beta"):
        post["gamma"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exported = post.to_inference_data()
    np.testing.assert_array_equal(np.asarray(exported["posterior"]["beta"])[0], post["beta"])
    assert len(post.plot().axes) >= 3


def test_unsuitable_data_are_refused_or_warned_about(net: AmortizedPosterior) -> None:
    key = jax.random.key(0)
    with pytest.raises(ValueError, match="9 row.*fewer than the 10"):
        net.sample(key, data(9), 7)
    with pytest.warns(UserWarning, match="600 rows, more than the 512"):
        net.sample(key, data(600), 7)
    one = data(25)
    with pytest.warns(UserWarning, match="Outside the training range.*log sd of feature 0"):
        net.sample(key, icl_bayes.Dataset(x=100.0 * one["x"], y=one["y"]), 7)
    with pytest.raises(ValueError, match="num_draws must be at least 1"):
        net.sample(key, one, 0)


def test_draws_that_are_not_finite_are_never_returned(net: AmortizedPosterior) -> None:
    broken = dataclasses.replace(net, params=jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan), net.params))
    broken._programs = {}
    with pytest.raises(ValueError, match="draws that are not finite"):
        broken.sample(jax.random.key(0), data(25), 7)


def test_samplers_of_one_shape_share_the_base(net: AmortizedPosterior, monkeypatch) -> None:
    fresh = dataclasses.replace(net, programs=ProgramCache())
    fresh._programs, found = {}, []
    find_base = fresh.network.find_base
    monkeypatch.setattr(
        type(fresh.network), "find_base", lambda self, *arguments: found.append(0) or find_base(*arguments)
    )
    key, dataset = jax.random.key(0), data(25)
    draws = fresh.sample(key, dataset, 7)
    fresh.sample(key, dataset, 7, polish=2)
    fresh.sample(key, dataset, 5, with_log_prob=True)
    fresh.base_of(fresh.prepare(dataset).pad_rows(fresh.padded_length(25)))
    assert len(found) == 1
    fresh.sample_batch(key, [dataset, dataset], 7)
    assert len(found) == 2  # for stacked data sets, another one
    np.testing.assert_array_equal(draws["beta"], net.sample(key, dataset, 7)["beta"])


def test_the_flat_encoder_answers_for_fewer_rows_than_it_was_built_for(tmp_path) -> None:
    """Rows are padded to its own length, not to a bucket beyond it."""
    config = tiny_config(model={"encoder": "mlp", "mlp_rows": 50})
    network = build_network(config)
    calibration = {"num_rows": [10, 60], "statistics": {"log sd of feature 0": [-0.01, 0.01]}}
    save_checkpoint(tmp_path / "net", config, network.task, network.init(0), provenance={}, calibration=calibration)
    net = AmortizedPosterior.from_checkpoint(load_checkpoint(tmp_path / "net"), "flat")
    assert net.sample(jax.random.key(0), data(40), 20)["beta"].shape == (20, 2)
    with pytest.raises(ValueError, match="built for 50 rows; received 51"):
        net.sample(jax.random.key(0), data(51), 20)


def test_an_unknown_network_lists_the_shipped_ones() -> None:
    with pytest.raises(CheckpointError, match=r"no directory 'glm/99'.*glm/1"):
        icl_bayes.load("glm/99")


def test_a_base_that_misses_the_posterior_is_warned_about() -> None:
    from icl_bayes.inference.checks import check_base

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert check_base(0.05, -np.inf) == []
    with pytest.warns(UserWarning, match=r"stopped 0\.3 nats short of its end"):
        assert len(check_base(0.3, -8.0)) == 1
    with pytest.warns(UserWarning, match=r"second mode with 14% \(estimate\) of the mass.*reference_draws"):
        assert len(check_base(0.0, -2.0)) == 1
    assert len(check_base(float("nan"), -2.0, warn=False)) == 2


@pytest.mark.parametrize("name", ["glm/5", pytest.param("glm/2/gaussian", marks=pytest.mark.slow)])
def test_one_velocity_for_all_starts_hardly_moves_the_draws(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The identity behind it holds for the true velocity; a shipped network follows it to a few hundredths of a sd."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((40, 5))
    dataset = icl_bayes.Dataset(x=x, y=x @ [0.8, 0.4, -0.2, 0.6, 0.1] + 0.7 * rng.standard_normal(40))

    def draws(**options) -> np.ndarray:
        return icl_bayes.load(name).sample(jax.random.key(0), dataset, 500, **options).theta

    usual = draws()
    steps = icl_bayes.load(name).solver.num_steps
    coarse = draws(solver=Solver("midpoint", steps // 2))
    monkeypatch.setattr(Path, "start_velocity", lambda *_: None)
    each_its_own = draws()
    sd = each_its_own.std(axis=0)
    moved = np.sqrt(np.mean(((usual - each_its_own) / sd) ** 2))
    assert 0.0 < moved < 0.04
    assert moved < np.sqrt(np.mean(((coarse - each_its_own) / sd) ** 2)), "Less than half the number of steps does."


def test_prior_constants_are_checked_against_the_training():
    """Ranges are inclusive up to five percent; a constant that was fixed in training may not change at all."""
    ranges = {"scale": (0.5, 4.0), "rate": (2.0, 2.0)}
    assert outside_prior(ranges, {"scale": 4.1, "rate": 2.05}) == []
    (note,) = outside_prior(ranges, {"scale": 1.0, "rate": 3.0})
    assert note == "the prior constant rate is 3., in training 2"
    (note,) = outside_prior(ranges, {"scale": np.asarray([1.0, 9.0]), "rate": 2.0})
    assert "in training 0.5 to 4" in note


def test_the_prior_of_a_call_is_that_of_the_data_set(net):
    dataset = data(20)
    name, (_, high) = next(iter(net.prior_range.items()))
    key, inside = jax.random.key(4), {name: high}
    stated = net.sample(key, dataset, 20, prior=inside)
    assert (stated.theta == net.sample(key, dataset.replace(constants=inside), 20).theta).all()
    with pytest.warns(UserWarning, match=f"prior constant {name}"):
        net.sample(key, dataset, 20, prior={name: 20.0 * high})
    with pytest.raises(ValueError, match="has no constant"):
        net.sample(key, dataset, 20, prior={"nothing": 1.0})
