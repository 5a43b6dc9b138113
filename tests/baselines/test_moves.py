"""Moves after the flow: exactly invariant, with a step size that the moved draws have no say in."""

from __future__ import annotations

import blackjax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from blackjax.mcmc.hmc import hmc_proposal
from helpers import assert_mean_within_mcse

from icl_bayes.baselines.moves import LADDER, Space, find_setting, step_sizes, tuned_moves
from icl_bayes.inference import load
from icl_bayes.types import Dataset

NUM = 20_000


def log_exponential(u: jax.Array) -> jax.Array:
    """Log density of the logarithm of an exponential variate: skewed, hence sensitive to what is rejected."""
    return jnp.sum(u - jnp.exp(u))


def polished(starts: np.ndarray, pilots: np.ndarray, num_moves: int = 3, log_density_fn=log_exponential):
    keys = jax.random.split(jax.random.key(1), len(starts))
    space, settings = Space(log_density_fn), step_sizes(jnp.ones(starts.shape[1]))
    program = jax.jit(
        lambda starts, pilots: tuned_moves(jax.random.key(0), keys, space, settings, starts, pilots, num_moves)
    )
    positions, info = program(starts.astype(np.float32), pilots.astype(np.float32))
    return np.asarray(positions[-1], np.float64), float(info.acceptance), float(info.step_size)


def powers(u: np.ndarray) -> np.ndarray:
    return np.column_stack([u, u**2, u**3])


def exact_draws(seed: int, num: int) -> np.ndarray:
    return np.log(np.random.default_rng(seed).exponential(size=(num, 2)))


@pytest.mark.parametrize("accept_all", [False, True], ids=["as it is", "accepting everything"])
def test_exact_draws_stay_exact(accept_all: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def always(rng_key, delta_energy, state, proposal):
        del rng_key, state
        return proposal, (delta_energy == delta_energy, jnp.exp(0.0 * delta_energy), None)

    if accept_all:
        monkeypatch.setitem(hmc_proposal.__kwdefaults__, "sample_proposal", always)
        monkeypatch.setattr("icl_bayes.baselines.moves.LADDER", (1.3,))
    starts = exact_draws(0, NUM)
    positions, acceptance, _ = polished(starts, exact_draws(1, 64))
    assert np.mean(np.any(positions != starts, axis=1)) > 0.9, "The chains moved."
    change = powers(positions) - powers(starts)
    if accept_all:
        with pytest.raises(AssertionError, match=r"standard errors|not finite"):
            assert_mean_within_mcse(change, np.zeros(6))
    else:
        assert 0.5 < acceptance < 1.0
        assert_mean_within_mcse(change, np.zeros(6))


def test_inexact_draws_come_closer() -> None:
    starts = 0.5 * exact_draws(0, NUM)
    target = powers(exact_draws(1, 200_000)).mean(axis=0)
    distances = [
        np.abs(powers(u).mean(axis=0) - target).max()
        for u in (starts, *(polished(starts, starts[:64], k)[0] for k in (1, 5)))
    ]
    assert distances[1] < 0.7 * distances[0]
    assert distances[2] < 0.15 * distances[0]


def test_the_step_size_follows_the_width_of_the_posterior() -> None:
    rng = np.random.default_rng(0)
    found = {}
    for width in (1.0, 0.1):
        pilots = jnp.asarray(width * rng.normal(size=(64, 3)), jnp.float32)
        log_density_fn = lambda u, width=width: -0.5 * jnp.sum((u / width) ** 2)  # noqa: E731
        states = jax.jit(jax.vmap(lambda start, fn=log_density_fn: blackjax.hmc.init(start, fn)))(pilots)
        setting = find_setting(jax.random.key(0), Space(log_density_fn), step_sizes(jnp.ones(3)), states)
        found[width] = float(setting.step_size)
    assert found[0.1] < 0.3 * found[1.0]
    assert len(LADDER) > 3


def test_moves_depend_on_no_other_draw() -> None:
    starts, pilots = exact_draws(0, 8), exact_draws(1, 64)
    together = polished(starts, pilots)
    changed = polished(np.concatenate([starts[:4], 5.0 + starts[4:]]), pilots)
    np.testing.assert_allclose(changed[0][:4], together[0][:4], rtol=1e-5)
    assert changed[2] == together[2]


def test_a_network_polishes_its_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first draws are the same whatever the number and size of chunks, and the moves are reported."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20, 5))
    data = Dataset(x=x, y=x @ [1.0, -0.5, 0.0, 0.3, 0.8] + 0.5 * rng.normal(size=20))
    net, key = load("glm/1/gaussian"), jax.random.key(0)
    raw = net.sample(key, data, 40)
    few = net.sample(key, data, 40, polish=2)
    assert few.info["moves"] == 2
    assert 0.4 < few.info["acceptance"] <= 1.0
    assert "moves" not in raw.info
    assert np.mean(np.any(few.theta != raw.theta, axis=1)) > 0.9
    monkeypatch.setattr("icl_bayes.inference.network.CHUNK", 40)
    many = net.sample(key, data, 70, polish=2)
    np.testing.assert_allclose(many.theta[:40], few.theta, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="polish is a number of moves, at least 0; received -1"):
        net.sample(key, data, 10, polish=-1)
