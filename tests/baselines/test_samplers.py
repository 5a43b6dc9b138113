"""What all samplers share: the same law, the same signature, the same bookkeeping."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import jax
import numpy as np
import pytest
from helpers import assert_mean_within_mcse

from icl_bayes.baselines import ExactSampler, baseline_names, make_baseline
from icl_bayes.tasks import Task, make_task
from icl_bayes.types import Dataset, Sampler, SampleResult

UNBIASED = ("exact", "nuts", "nuts_jit", "parallel_hmc@20")
ALL = (*UNBIASED, "laplace")
NUM_DRAWS = 1000


@pytest.fixture(scope="module")
def cached(glm1: Task):
    """Samplers made once each, so that the tests below share their compiled programs."""

    @lru_cache
    def make(name: str) -> Sampler:
        return make_baseline(name, glm1)

    return make


class ExactMoments(NamedTuple):
    """Moments of the posterior from many exact draws, with their standard errors."""

    center: np.ndarray
    mean: np.ndarray
    standard_error: np.ndarray


def values_of(sites: dict[str, np.ndarray]) -> np.ndarray:
    return np.column_stack([sites["beta"], np.log(sites["sigma2"])]).astype(np.float64)


def moments(sites: dict[str, np.ndarray], center: np.ndarray) -> np.ndarray:
    """Per draw: coefficients and log variance around ``center``, and all their products, ``(num_draws, K)``."""
    values = values_of(sites) - center
    products = values[:, :, None] * values[:, None, :]
    return np.column_stack([values, products.reshape(len(values), -1)])


@pytest.fixture(scope="module")
def exact_moments(glm1: Task, glm1_dataset: Dataset) -> ExactMoments:
    sites = ExactSampler(glm1).sample(jax.random.key(99), glm1_dataset, 40_000).sites
    center = values_of(sites).mean(axis=0)
    values = moments(sites, center)
    return ExactMoments(center, values.mean(axis=0), values.std(axis=0) / np.sqrt(len(values)))


@pytest.mark.parametrize("name", UNBIASED)
def test_unbiased_samplers_agree_with_exact_moments(
    cached, glm1_dataset: Dataset, exact_moments: ExactMoments, name: str
) -> None:
    result = cached(name).sample(jax.random.key(1), glm1_dataset, NUM_DRAWS)
    assert result.status == "ok", result.message
    assert_mean_within_mcse(
        moments(result.sites, exact_moments.center),
        exact_moments.mean,
        expected_se=exact_moments.standard_error,
        label=name,
    )


def test_the_comparison_above_can_fail(cached, glm1_dataset: Dataset, exact_moments: ExactMoments) -> None:
    """Draws with 0.8 of the standard deviation are noticed."""
    draws = cached("exact").sample(jax.random.key(1), glm1_dataset, NUM_DRAWS).sites
    center = exact_moments.center[:-1]
    too_narrow = {**draws, "beta": center + 0.8 * (draws["beta"] - center)}
    with pytest.raises(AssertionError, match="standard errors"):
        assert_mean_within_mcse(
            moments(too_narrow, exact_moments.center),
            exact_moments.mean,
            expected_se=exact_moments.standard_error,
        )


@pytest.mark.parametrize("name", ALL)
def test_a_second_data_set_of_the_same_shape_compiles_nothing(
    cached, glm1_dataset: Dataset, glm1_other_dataset: Dataset, name: str
) -> None:
    sampler = cached(name)
    assert isinstance(sampler, Sampler)
    assert sampler.name == name
    first = sampler.sample(jax.random.key(1), glm1_dataset, NUM_DRAWS)
    count = len(sampler.programs) if hasattr(sampler, "programs") else 0
    second = sampler.sample(jax.random.key(2), glm1_other_dataset, NUM_DRAWS)
    assert second.seconds_compile == 0.0
    assert second.seconds_run > 0.0
    assert count == (len(sampler.programs) if hasattr(sampler, "programs") else 0)
    for result in (first, second):
        check_shapes(result)
    assert not np.allclose(first.sites["beta"].mean(axis=0), second.sites["beta"].mean(axis=0), atol=1e-3)


def check_shapes(result: SampleResult) -> None:
    assert {name: values.shape for name, values in result.sites.items()} == {
        "beta": (NUM_DRAWS, 3),
        "sigma2": (NUM_DRAWS,),
    }
    assert all(isinstance(values, np.ndarray) and np.isfinite(values).all() for values in result.sites.values())
    assert all(np.isfinite(value) for value in result.health.values())
    assert (result.sites["sigma2"] > 0).all()


@pytest.mark.parametrize("name", ["laplace", "nuts_jit", "parallel_hmc@20"])
def test_draws_follow_from_key_and_data_alone(
    cached, glm1_dataset: Dataset, glm1_other_dataset: Dataset, name: str
) -> None:
    """No state is carried from one data set to the next (fault 11 of the published code)."""
    sampler = cached(name)
    before = sampler.sample(jax.random.key(5), glm1_dataset, NUM_DRAWS).sites["beta"]
    sampler.sample(jax.random.key(6), glm1_other_dataset, NUM_DRAWS)
    np.testing.assert_array_equal(before, sampler.sample(jax.random.key(5), glm1_dataset, NUM_DRAWS).sites["beta"])
    assert not np.allclose(before, sampler.sample(jax.random.key(7), glm1_dataset, NUM_DRAWS).sites["beta"])


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("nutz", {}, r"Unknown baseline 'nutz'; choices: exact, laplace, map, nuts, nuts_jit"),
        ("parallel_hmc", {}, r"parallel_hmc@K"),
        ("parallel_hmc@5:gibbs", {}, r"parallel_hmc@K:laplace"),
        ("parallel_hmc@5:em", {}, r"start=em of parallel_hmc is for mixtures"),
        ("parallel_hmc@5", {"start": "gibbs"}, r"choices: laplace, variational, map, prior, em"),
        ("parallel_hmc@5", {"jitter": 1.5}, r"received 1.5"),
        ("nuts", {"warmup": 10}, r"no option\(s\) \['warmup'\]; choices: \['mode', 'num_warmup'"),
        ("nuts", {"num_chains": 0}, r"at least 1 for num_chains"),
        ("nuts", {"mode": "fast"}, r"choices: mcmc_run, jit"),
        ("nuts", {"start": "em"}, r"choices: uniform, laplace"),
        ("nuts", {"target_accept": 1.0}, r"between 0 and 1"),
        ("vi_full", {"num_steps": 10}, r"multiple of 4; received 10"),
        ("vi_full", {"guide": "iaf"}, r"no option\(s\) \['guide'\]"),
        ("exact", {"tolerence": 1e-3}, r"choices: \['tolerance', 'name'\]"),
    ],
)
def test_misspelt_names_and_options_list_the_choices(glm1: Task, name: str, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_baseline(name, glm1, **options)


def test_too_few_draws_are_refused(cached, glm1_dataset: Dataset) -> None:
    for name in ("exact", "laplace", "map", "nuts", "parallel_hmc@20", "vi_full"):
        with pytest.raises(ValueError, match="num_draws must be at least 1; received 0"):
            cached(name).sample(jax.random.key(0), glm1_dataset, 0)


def test_every_listed_name_can_be_made() -> None:
    glm = make_task("glm/2", num_columns=2, covariates="gaussian")
    mixture = make_task("gmm/2")
    for name in baseline_names():
        concrete = name.replace("@K", "@3")
        made = make_baseline(concrete, mixture if name.endswith(":em") else glm)
        assert made.name == concrete.removesuffix(":laplace")


@pytest.mark.parametrize("name", ["nuts_jit", "laplace", "vi_full", "map"])
def test_data_the_model_does_not_allow_are_refused_however_complete_they_look(name: str) -> None:
    """Labels 1 and 2 have a likelihood under the formula of the Bernoulli law, only not a meaning."""
    x = np.random.default_rng(0).normal(size=(20, 5))
    labels = np.tile([1.0, 2.0], 10)
    complete = Dataset(x=x, y=labels, constants={"beta_scale": 1.0})
    with pytest.raises(ValueError, match=r"values 0 and 1; received \[1.0, 2.0\]"):
        make_baseline(name, make_task("glm/6")).sample(jax.random.key(0), complete, 100)
