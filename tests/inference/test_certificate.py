"""Densities of a network's draws, and the verdict that follows from them."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import icl_bayes
from icl_bayes.baselines import ExactSampler
from icl_bayes.flow import Solver
from icl_bayes.inference import AmortizedPosterior
from icl_bayes.inference.certificate import certify


@pytest.fixture(scope="module")
def post(net: AmortizedPosterior, dataset: icl_bayes.Dataset) -> icl_bayes.Posterior:
    return net.sample(jax.random.key(0), dataset, 1000, with_log_prob=True)


def test_density_at_draws_is_that_of_the_pass_that_made_them(net, dataset, post) -> None:
    few = {name: value[:40] for name, value in post.items()}
    np.testing.assert_allclose(net.log_prob(dataset, few), post.log_prob[:40], atol=2e-3)
    plain = net.sample(jax.random.key(0), dataset, 1000)
    np.testing.assert_allclose(plain.theta, post.theta, atol=1e-4)
    np.testing.assert_allclose(plain.log_prob, post.log_prob, atol=1e-3)  # drawn again
    moved = {**few, "sigma2": 1.5 * few["sigma2"]}
    assert np.abs(net.log_prob(dataset, moved) - post.log_prob[:40]).max() > 0.1


def test_a_wide_share_of_the_noise_is_part_of_the_density(net, dataset) -> None:
    """Both ways to the density know of it, and weights give the evidence as before."""
    flow = dataclasses.replace(net.network.config.flow, wide_share=0.4)
    network = dataclasses.replace(net.network, config=dataclasses.replace(net.network.config, flow=flow))
    wide = AmortizedPosterior(network, net.params, net.checkpoint, "wide", net.solver)
    post = wide.sample(jax.random.key(0), dataset, 2000, with_log_prob=True)
    few = {name: value[:40] for name, value in post.items()}
    np.testing.assert_allclose(wide.log_prob(dataset, few), post.log_prob[:40], atol=2e-3)
    assert np.abs(net.log_prob(dataset, few) - post.log_prob[:40]).mean() > 0.2, "The control: other densities."
    assert post["beta"][:, 0].std() > 1.1 * net.sample(jax.random.key(0), dataset, 2000)["beta"][:, 0].std()
    exact = ExactSampler(icl_bayes.tasks.make_task("glm/1", num_columns=2)).sample(jax.random.key(0), dataset, 20)
    certificate = post.certificate()
    error = abs(certificate.log_evidence - exact.health["log_evidence"])
    assert error < 4.0 * certificate.log_evidence_error + 1e-3


def test_density_has_the_units_of_the_model(net, dataset, post) -> None:
    """Log weights do not depend on units; the density of the sites does, by the Jacobian of the coordinates."""
    task, prepared = net.task, net.prepare(dataset)
    theta = jnp.asarray(post.theta[:5])

    @jax.jit
    def of_program(theta):
        one = lambda theta: (task.log_volume(theta, prepared), task.log_joint(theta, prepared))  # noqa: E731
        slopes = jax.jacfwd(lambda theta: task.constrain(theta, prepared))
        return (*jax.vmap(one)(theta), jax.vmap(slopes)(theta))

    volume, joint, slopes = jax.device_get(of_program(theta))
    np.testing.assert_allclose(joint - post.log_prob[:5] - volume, post.densities.log_weight[:5], atol=2e-3)
    # Neither site depends on the coordinates of the other.
    beta, sigma2 = task.sites["beta"].start, task.sites["sigma2"].start
    expected = np.log(np.abs(slopes["sigma2"][:, sigma2]))
    expected += np.linalg.slogdet(slopes["beta"][:, :, beta : beta + 2])[1]
    np.testing.assert_allclose(volume, expected, atol=1e-4)


def test_evidence_is_the_exact_one(net, dataset, post) -> None:
    exact = ExactSampler(icl_bayes.tasks.make_task("glm/1", num_columns=2)).sample(jax.random.key(0), dataset, 20)
    certificate = post.certificate()
    assert certificate.khat < 0.7
    error = abs(certificate.log_evidence - exact.health["log_evidence"])
    assert error < 4.0 * certificate.log_evidence_error + 1e-3
    assert certificate.log_evidence_error < 0.1


def test_verdicts(net, dataset, post) -> None:
    weights = np.asarray(post.densities.log_weight)
    generator = np.random.default_rng(0)
    assert certify(0.02 * generator.normal(size=1000)).verdict == "good"
    wide = certify(weights + 2.0 * generator.normal(size=1000))
    assert wide.verdict == "rejected"
    assert any("total variation" in reason for reason in wide.reasons)
    heavy = certify(1.5 * generator.exponential(size=1000))
    assert any("k-hat" in reason for reason in heavy.reasons)
    missed = certify(np.zeros(1000), ["the posterior has a second mode with 30% of the mass of the first"])
    assert missed.verdict == "rejected"
    unseen = certify(np.zeros(1000), has_far_modes=True)
    assert (unseen.verdict, len(unseen.reasons)) == ("good", 1)
    assert certify(np.full(100, np.nan)).verdict == "rejected"


def test_what_has_no_density_is_unchecked(net, dataset) -> None:
    moved = net.sample(jax.random.key(0), dataset, 30, polish=1)
    assert moved.certificate().verdict == "unchecked"
    few = net.sample(jax.random.key(0), dataset, 5).certificate()
    assert (few.verdict, few.reasons) == (
        "unchecked",
        ("5 draw(s) are too few for a verdict, which takes at least 20",),
    )
    with pytest.raises(ValueError, match="After moves"):
        _ = moved.log_prob
    with pytest.raises(ValueError, match="with_log_prob is for draws as the network makes them"):
        net.sample(jax.random.key(0), dataset, 30, polish=1, with_log_prob=True)
    with pytest.raises(ValueError, match="dopri5 has none"):
        net.sample(jax.random.key(0), dataset, 30, solver=Solver("dopri5"), with_log_prob=True)


def test_posteriors_of_a_batch_have_certificates(net, dataset) -> None:
    one = net.sample_batch(jax.random.key(3), [dataset] * 10, 1000)[0]  # more than are computed side by side
    alone = net.sample(jax.random.fold_in(jax.random.key(3), 0), dataset, 1000, with_log_prob=True)
    assert one.certificate().khat == pytest.approx(alone.certificate().khat, abs=0.01)


def test_values_of_the_wrong_form_are_refused(net, dataset, post) -> None:
    with pytest.raises(ValueError, match=r"missing: \['sigma2'\]"):
        net.log_prob(dataset, {"beta": post["beta"]})
    with pytest.raises(ValueError, match=r"expects site 'beta' of shape \('num', 2\).*received \(1000, 1\)"):
        net.log_prob(dataset, {"beta": post["beta"][:, :1], "sigma2": post["sigma2"]})
