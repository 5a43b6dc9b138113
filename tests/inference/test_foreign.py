"""Draws from elsewhere: read as they were written, checked by moves, repaired where they are wrong."""

from __future__ import annotations

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import icl_bayes
from icl_bayes.inference.arviz_bridge import _from_groups
from icl_bayes.inference.gaussian_source import GaussianSource
from icl_bayes.tasks import Task
from icl_bayes.types import Dataset

NUM_ROWS = 30


def model(y=None):
    mean = numpyro.sample("mean", dist.Normal(0.0, 3.0))
    with numpyro.plate("rows", NUM_ROWS):
        numpyro.sample("y", dist.Normal(mean, 1.0), obs=y)


@pytest.fixture(scope="module")
def task() -> Task:
    return Task.from_numpyro(model, num_rows=NUM_ROWS)


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return Dataset(y=np.random.default_rng(0).normal(1.0, 1.0, NUM_ROWS))


def exact(dataset: Dataset) -> tuple[float, float]:
    """Mean and standard deviation of the conjugate posterior."""
    precision = NUM_ROWS + 1.0 / 9.0
    return float(np.sum(dataset["y"]) / precision), precision**-0.5


def inference_data(**variables: np.ndarray):
    return _from_groups({"posterior": variables})


def test_a_file_gives_the_draws_back(task, dataset, tmp_path):
    post = GaussianSource(task).sample(jax.random.key(0), dataset, 300)
    post.to_inference_data().to_netcdf(str(tmp_path / "draws.nc"))
    found = icl_bayes.from_inference_data(tmp_path / "draws.nc", task, dataset)
    assert found["mean"] == pytest.approx(post["mean"], abs=1e-6)
    assert found.theta == pytest.approx(post.theta, abs=1e-5)
    certificate = found.certificate()
    assert certificate.verdict == "unchecked"
    assert "made elsewhere" in certificate.reasons[0]


@pytest.mark.parametrize(("shift", "width"), [(0.0, 1.0), (2.0, 0.5)])
def test_draws_are_moved_until_they_are_right(task, dataset, shift, width):
    """Exact ones stay what they are; others, two standard deviations off and too narrow, get there."""
    mean, sd = exact(dataset)
    draws = mean + sd * (shift + width * np.random.default_rng(1).normal(size=(4, 500)))
    found = icl_bayes.from_inference_data(inference_data(mean=draws), task, dataset, max_draws=2000)
    refined = found.refine(jax.random.key(2))
    assert refined.certificate().verdict in ("polished", "refined")
    assert refined["mean"].mean() == pytest.approx(mean, abs=4.0 * sd / np.sqrt(2000))
    assert refined["mean"].std() == pytest.approx(sd, rel=0.08)


def test_draws_are_thinned_evenly_over_chains(task, dataset):
    draws = np.arange(40.0).reshape(4, 10)
    found = icl_bayes.from_inference_data(inference_data(mean=draws), task, dataset, max_draws=14)
    assert found["mean"] == pytest.approx(np.arange(0.0, 40.0, 3.0), abs=1e-3)


@pytest.mark.parametrize(
    ("variables", "match"),
    [
        ({"slope": np.zeros((1, 5))}, r"lack \['mean'\]"),
        ({"mean": np.zeros((1, 5, 2))}, r"shapes {'mean': \(2,\)}"),
        ({"mean": np.asarray([[0.0, np.nan]])}, "1 of 2 draws"),
    ],
)
def test_draws_of_another_model_are_refused(task, dataset, variables, match):
    with pytest.raises(ValueError, match=match):
        icl_bayes.from_inference_data(inference_data(**variables), task, dataset)


def test_what_holds_no_posterior_is_named(task, dataset):
    with pytest.raises(ValueError, match="group 'posterior'"):
        icl_bayes.from_inference_data({"prior": {}}, task, dataset)
    with pytest.raises(ValueError, match="There is no file"):
        icl_bayes.from_inference_data("nowhere.nc", task, dataset)
