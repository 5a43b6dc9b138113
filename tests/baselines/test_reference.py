"""Reference draws: right where the posterior is known, failed where the checks should bite."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from helpers import assert_mean_within_mcse

from icl_bayes.baselines import ReferenceSampler, reference_draws
from icl_bayes.baselines.reference import Effort
from icl_bayes.tasks import Task
from icl_bayes.types import Dataset


def test_exact_draws_are_used_where_they_exist(glm1: Task, glm1_dataset: Dataset) -> None:
    result = reference_draws(glm1, glm1_dataset, jax.random.key(0), 500)
    assert result.status == "ok"
    assert result.health["cdf_error"] < 1e-6
    assert result.sites["beta"].shape == (500, 3)


@pytest.mark.parametrize("quick", [False, True])
def test_chains_pass_all_checks_and_agree_with_the_truth(quick: bool, linear) -> None:
    result = reference_draws(linear.task, linear.dataset, jax.random.key(0), 1500, quick=quick)
    assert result.status == "ok", result.message
    assert result.health["efficiency"] >= 0.9
    assert result.health["r_hat"] <= 1.01
    assert result.health["mode_spread"] < 0.1
    beta = result.sites["beta"].astype(np.float64)
    assert beta.shape == (1500, 2)
    assert_mean_within_mcse(beta, linear.mean, min_ess=1000.0)  # thinned: worth nearly as many as there are
    centred = beta - linear.mean
    assert_mean_within_mcse(centred[:, :, None] * centred[:, None, :], linear.covariance, min_ess=1000.0)
    again = reference_draws(linear.task, linear.dataset, jax.random.key(1), 1500, quick=quick)
    assert again.seconds_compile == 0.0


def test_separated_modes_fail_the_reference(bimodal) -> None:
    """Chains start in both basins because both have a say; that they do not mix is then seen."""
    result = ReferenceSampler(bimodal.task, effort=Effort(thinning=2)).sample(jax.random.key(0), bimodal.dataset, 800)
    assert result.health["mode_spread"] > 20.0
    assert result.status == "failed"
    assert "not mixed" in result.message


def test_effort_is_raised_only_where_it_helps() -> None:
    healthy = {"efficiency": 0.97, "divergences": 0.0, "r_hat": 1.001}
    assert Effort().raised_for(healthy) == Effort()
    assert Effort().raised_for({**healthy, "efficiency": 0.5}) == Effort(thinning=40)
    assert Effort().raised_for({**healthy, "efficiency": np.nan}) == Effort(thinning=40)
    assert Effort().raised_for({**healthy, "divergences": 0.002}) == Effort(target_accept=0.99)
    apart = {**healthy, "efficiency": 0.01, "r_hat": 4.0}  # each chain in a mode of its own
    assert Effort().raised_for(apart) == Effort()
