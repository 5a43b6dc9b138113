"""Rows: log likelihoods and predictions against closed forms, LOO and WAIC, evidence of models."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_mean_within_mcse
from scipy import stats

import icl_bayes
from icl_bayes.baselines import ExactSampler
from icl_bayes.inference import Posterior
from icl_bayes.inference.certificate import Certificate
from icl_bayes.inference.predictive import widely_applicable
from icl_bayes.tasks import Task, make_task
from inference.conftest import noisy_network

NUM = 500


def posterior(task: Task, dataset: icl_bayes.Dataset, theta: np.ndarray) -> Posterior:
    """Given draws as a posterior."""
    prepared = task.prepare(dataset)
    theta = np.asarray(theta, np.float32)
    sites = jax.jit(jax.vmap(task.constrain, (0, None)))(theta, prepared)
    return Posterior(task, prepared, theta, {name: np.asarray(value) for name, value in sites.items()})


@pytest.fixture(scope="module")
def gaussian(dataset) -> Posterior:
    """Exact draws of a Gaussian regression, with padded rows."""
    task = make_task("glm/1", num_columns=2)
    sites = ExactSampler(task).sample(jax.random.key(1), dataset, NUM).sites
    prepared = task.prepare(dataset)
    theta = jax.jit(jax.vmap(task.unconstrain, (0, None)))(
        {name: jnp.asarray(sites[name]) for name in task.sites}, prepared
    )
    return posterior(task, dataset.pad_rows(40), theta)


def test_rows_of_a_gaussian_regression(gaussian, dataset) -> None:
    found = gaussian.log_likelihood()
    linear = gaussian["beta"] @ np.asarray(dataset["x"]).T
    expected = stats.norm.logpdf(dataset["y"], linear, np.sqrt(gaussian["sigma2"])[:, None])
    assert found.shape == (NUM, 30), "Padded rows are no rows."
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_rows_of_other_models_add_up() -> None:
    """Logistic regression and mixtures by their plates, factor analysis row by row; whole and parts agree."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(12, 2))
    logistic = make_task("glm/6", num_columns=2)
    labels = (generator.uniform(size=12) < 0.5).astype(float)
    post = posterior(logistic, icl_bayes.Dataset(x=x, y=labels), generator.normal(size=(20, logistic.dim)))
    logits = post["beta"] @ x.T
    expected = stats.bernoulli.logpmf(labels, 1.0 / (1.0 + np.exp(-logits)))
    np.testing.assert_allclose(post.log_likelihood(), expected, rtol=1e-3, atol=1e-4)

    factors = make_task("efa/1")
    rows = generator.normal(size=(9, 4))
    post = posterior(factors, icl_bayes.Dataset(x=rows).pad_rows(12), 0.5 * generator.normal(size=(6, factors.dim)))
    found = post.log_likelihood()
    covariance = np.einsum("dpf,dqf->dpq", post["loadings"], post["loadings"])
    covariance += np.einsum("dp,pq->dpq", post["psi"], np.eye(4))
    for draw in range(6):
        law = stats.multivariate_normal(post["mu"][draw], covariance[draw])
        np.testing.assert_allclose(found[draw], law.logpdf(rows), rtol=1e-3, atol=1e-3)


def test_rows_that_are_not_independent_are_refused() -> None:
    task = make_task("fa/1")
    generator = np.random.default_rng(0)
    post = posterior(task, icl_bayes.Dataset(x=generator.normal(size=(10, 3))), generator.normal(size=(4, task.dim)))
    with pytest.raises(ValueError, match=r"rows of fa/1 are not independent given its sites"):
        post.log_likelihood()


def test_predictions_have_the_moments_of_the_model(gaussian) -> None:
    new = np.array([[1.0, 0.0], [0.0, 2.0], [-1.0, 1.0]])
    found = gaussian.predict(jax.random.key(5), icl_bayes.Dataset(x=new))["y"]
    assert found.shape == (NUM, 3)
    linear = gaussian["beta"] @ new.T
    assert_mean_within_mcse(found - linear, np.zeros(3))
    assert_mean_within_mcse((found - linear) ** 2 - gaussian["sigma2"][:, None], np.zeros(3))
    replicated = gaussian.predict(jax.random.key(5))["y"]
    assert replicated.shape == (NUM, 30)
    again = gaussian.predict(jax.random.key(5))["y"]
    np.testing.assert_array_equal(replicated, again)


def test_positive_responses_are_predicted_in_their_units() -> None:
    task = make_task("glm/7", num_columns=2)
    generator = np.random.default_rng(0)
    x = generator.normal(size=(8, 2))
    post = posterior(task, icl_bayes.Dataset(x=x, y=np.exp(generator.normal(size=8))), np.zeros((2000, task.dim)))
    found = post.predict(jax.random.key(0))["y"]
    assert found.min() > 0.0
    mean = np.exp(post["beta"][:1] @ x.T)[0]  # all draws are one point
    assert_mean_within_mcse(found, mean)


def test_loo_is_arviz_and_waic_its_formula(gaussian) -> None:
    arviz = pytest.importorskip("arviz")
    values = gaussian.log_likelihood()
    fit = gaussian.loo()
    assert fit.pareto_k.shape == fit.pointwise.shape == (30,)
    assert fit.elpd == pytest.approx(fit.pointwise.sum(), rel=1e-4)
    waic = gaussian.waic()
    assert waic.elpd == pytest.approx(fit.elpd, abs=0.3), "Thirty rows and three parameters: they hardly differ."
    assert 1.0 < fit.num_parameters < 5.0
    if hasattr(arviz, "waic"):
        data = gaussian.to_inference_data(log_likelihood=True)
        theirs = arviz.waic(data)
        assert waic.elpd == pytest.approx(float(theirs.elpd_waic), rel=1e-3)
        assert waic.error == pytest.approx(float(theirs.se), rel=1e-3)
        assert float(arviz.loo(data).elpd_loo) == pytest.approx(fit.elpd, rel=1e-6)
    by_hand = np.log(np.exp(values).mean(axis=0)) - values.var(axis=0, ddof=1)
    np.testing.assert_allclose(waic.pointwise, by_hand, rtol=1e-6)
    influential = values.copy()
    influential[:, 0] -= np.linspace(0.0, 60.0, NUM) ** 1.5
    assert widely_applicable(influential).num_parameters > waic.num_parameters


def test_inference_data_holds_what_is_asked_for(gaussian, tmp_path: Path) -> None:
    certified = dataclasses.replace(gaussian, known_certificate=Certificate("good", ("fine",), khat=0.1))
    data = certified.to_inference_data(log_likelihood=True, predictive=jax.random.key(0))
    assert data["log_likelihood"]["y"].shape == (1, NUM, 30)
    assert data["posterior_predictive"]["y"].shape == (1, NUM, 30)
    attributes = data["posterior"].attrs
    assert (attributes["certificate_verdict"], attributes["certificate_khat"]) == ("good", 0.1)
    data.to_netcdf(str(tmp_path / "posterior.nc"))
    assert "certificate_verdict" not in gaussian.to_inference_data()["posterior"].attrs


def test_what_can_not_be_predicted_is_named(gaussian) -> None:
    key = jax.random.key(0)
    with pytest.raises(ValueError, match=r"must have shape \('m', 2\); received \(4, 3\)"):
        gaussian.predict(key, icl_bayes.Dataset(x=np.zeros((4, 3))))
    with pytest.raises(ValueError, match="not finite"):
        gaussian.predict(key, icl_bayes.Dataset(x=np.full((4, 2), np.nan)))
    with pytest.raises(ValueError, match=r"needs rows \['x'\]; received \['z'\]"):
        gaussian.predict(key, icl_bayes.Dataset(z=np.zeros((4, 2))))
    task = make_task("gmm/2")
    mixture = posterior(task, icl_bayes.Dataset(x=np.zeros((4, 3))), np.zeros((2, task.dim)))
    with pytest.raises(ValueError, match="has no covariates"):
        mixture.predict(key, icl_bayes.Dataset(x=np.zeros((4, 3))))
    assert mixture.predict(key)["x"].shape == (2, 4, 3)


def with_evidence(gaussian: Posterior, **values) -> Posterior:
    defaults = {"khat": 0.2, "log_evidence": -40.0, "log_evidence_error": 0.01}
    return dataclasses.replace(gaussian, known_certificate=Certificate("good", (), **{**defaults, **values}))


def test_models_are_compared_by_evidence(gaussian) -> None:
    models = {"a": with_evidence(gaussian), "b": with_evidence(gaussian, log_evidence=-38.0, log_evidence_error=0.02)}
    table = icl_bayes.compare_evidence(models)
    assert list(table.index) == ["b", "a"]
    assert table.loc["a", "log_bayes_factor"] == pytest.approx(-2.0)
    assert table.loc["a", "bayes_factor_error"] == pytest.approx(np.hypot(0.01, 0.02))
    assert table.loc["b", "probability"] == pytest.approx(1.0 / (1.0 + np.exp(-2.0)))
    weighted = icl_bayes.compare_evidence(models, {"a": np.exp(2.0), "b": 1.0})
    assert weighted.loc["a", "probability"] == pytest.approx(0.5)


def test_evidence_of_networks_tells_models_apart_as_the_exact_one_does(net, dataset, tmp_path: Path) -> None:
    """With and without an intercept."""
    other = noisy_network(tmp_path / "network", 0.03, scenario=2)
    key = jax.random.key(0)
    table = icl_bayes.compare_evidence(
        {"without": net.sample(key, dataset, 1000), "with": other.sample(key, dataset, 1000)}
    )
    exact = [
        ExactSampler(make_task(f"glm/{scenario}", num_columns=2)).sample(key, dataset, 20).health["log_evidence"]
        for scenario in (1, 2)
    ]
    difference = table.loc["with", "log_evidence"] - table.loc["without", "log_evidence"]
    assert difference == pytest.approx(exact[1] - exact[0], abs=0.05)


def test_comparisons_without_meaning_are_refused(gaussian) -> None:
    one = with_evidence(gaussian)
    with pytest.raises(ValueError, match="At least two models"):
        icl_bayes.compare_evidence({"a": one})
    moved = gaussian.dataset.replace(rows={**gaussian.dataset.rows, "y": np.asarray(gaussian.dataset["y"]) + 1.0})
    with pytest.raises(ValueError, match="different responses"):
        icl_bayes.compare_evidence({"a": one, "b": dataclasses.replace(one, dataset=moved)})
    with pytest.raises(ValueError, match="has no evidence"):
        icl_bayes.compare_evidence({"a": one, "b": with_evidence(gaussian, log_evidence=np.nan)})
    with pytest.raises(ValueError, match="prior_weights"):
        icl_bayes.compare_evidence({"a": one, "b": one}, {"a": 1.0})
    with pytest.warns(UserWarning, match="k-hat is 0.90"):
        icl_bayes.compare_evidence({"a": one, "b": with_evidence(gaussian, khat=0.9)})
