"""Short parallel chains: exactly invariant, and close to the posterior after few moves."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from blackjax.mcmc.hmc import hmc_proposal
from helpers import assert_mean_within_mcse

from icl_bayes.baselines import make_baseline
from icl_bayes.baselines.moves import default_step_size
from icl_bayes.baselines.parallel_hmc import parallel_moves


def powers(thetas: np.ndarray) -> np.ndarray:
    thetas = np.asarray(thetas, np.float64)
    return np.column_stack([thetas, thetas**2, thetas**3])


COARSE = {"num_moves": 3, "step_size": 1.3, "num_steps": 2}


@pytest.mark.parametrize("accept_all", [False, True], ids=["as it is", "accepting everything"])
def test_a_wrong_acceptance_rule_would_be_noticed(accept_all: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The logarithm of an exponential variate: skewed, hence sensitive to what is rejected."""

    def always(rng_key, delta_energy, state, proposal):
        del rng_key, state
        return proposal, (delta_energy == delta_energy, jax.numpy.exp(0.0 * delta_energy), None)

    if accept_all:
        monkeypatch.setitem(hmc_proposal.__kwdefaults__, "sample_proposal", always)
    starts = np.log(np.random.default_rng(0).exponential(size=(20_000, 2))).astype(np.float32)
    moved = jax.jit(
        lambda rng_key, starts: parallel_moves(
            rng_key, lambda u: (u - jax.numpy.exp(u)).sum(), starts, jitter=0.2, **COARSE
        )
    )(jax.random.key(1), starts)
    change = powers(moved.positions) - powers(starts)
    if accept_all:
        with pytest.raises(AssertionError, match=r"standard errors|not finite"):
            assert_mean_within_mcse(change, np.zeros(6))
    else:
        assert_mean_within_mcse(change, np.zeros(6))


def test_no_moves_return_the_starts(linear) -> None:
    modes = make_baseline("parallel_hmc@0:map", linear.task).sample(jax.random.key(0), linear.dataset, 10)
    np.testing.assert_allclose(modes.sites["beta"], np.tile(linear.mean, (10, 1)), atol=1e-4)
    assert modes.health["stuck"] == 0.0
    prior = make_baseline("parallel_hmc@0", linear.task, start="prior")
    draws = prior.sample(jax.random.key(0), linear.dataset, 5000).sites["beta"]
    assert_mean_within_mcse(np.column_stack([draws, draws**2]), [0.0, 0.0, 4.0, 4.0])


def test_moves_from_the_mode_reach_the_posterior(linear) -> None:
    result = make_baseline("parallel_hmc@12", linear.task, start="map").sample(jax.random.key(1), linear.dataset, 5000)
    centred = result.sites["beta"].astype(np.float64) - linear.mean
    assert_mean_within_mcse(centred, np.zeros(2))
    assert_mean_within_mcse(centred[:, :, None] * centred[:, None, :], linear.covariance, label="covariance")


def test_rejected_moves_are_reported(linear) -> None:
    result = make_baseline("parallel_hmc@2", linear.task, step_size=5.0).sample(jax.random.key(1), linear.dataset, 500)
    assert result.status == "warning"
    assert "mostly rejected" in result.message
    assert result.health["stuck"] > 0.5


def test_step_size_shrinks_slowly_with_the_dimension() -> None:
    assert default_step_size(1) > default_step_size(6) > default_step_size(30) > 0.3
