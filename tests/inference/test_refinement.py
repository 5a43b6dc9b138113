"""Repairs of a posterior: each has to lead to the exact one, and what passes no check is rejected."""

from __future__ import annotations

import dataclasses
import itertools
import re

import jax
import numpy as np
import pytest

import icl_bayes
from icl_bayes.baselines import ExactSampler
from icl_bayes.baselines.programs import ProgramCache
from icl_bayes.evaluation.diagnostics import moment_differences
from icl_bayes.evaluation.importance_weights import report_weights
from icl_bayes.inference import AmortizedPosterior, RefinedSampler, refinement
from icl_bayes.inference.repairs import Moved, Repairs, resample
from icl_bayes.types import SampleResult
from inference.conftest import noisy_network

NUM = 1000


@pytest.fixture(scope="module")
def exact(dataset) -> np.ndarray:
    task = icl_bayes.tasks.make_task("glm/1", num_columns=2)
    result = ExactSampler(task).sample(jax.random.key(9), dataset, 4000)
    return log_variance(result.sites)


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> AmortizedPosterior:
    """A network whose draws are far off."""
    return noisy_network(tmp_path_factory.mktemp("broken") / "network", 0.3)


def log_variance(sites) -> np.ndarray:
    return np.column_stack([sites["beta"], np.log(sites["sigma2"])])


def largest_z(post: icl_bayes.Posterior, exact: np.ndarray, ess: float | None = None) -> float:
    return moment_differences(log_variance(post), exact, draws_ess=ess).largest_z


def names(post: icl_bayes.Posterior) -> list[str]:
    return [step.name for step in post.certificate().path]


def test_good_draws_are_left_as_they_are(net, dataset) -> None:
    post = net.sample(jax.random.key(0), dataset, NUM, with_log_prob=True)
    refined = post.refine(jax.random.key(1), target=1.0)
    np.testing.assert_array_equal(refined.theta, post.theta)
    assert (refined.certificate().verdict, names(refined)) == ("good", ["weights"])
    assert refined.log_prob is not None


def test_resampled_draws_are_exact(net, dataset, exact) -> None:
    post = net.sample(jax.random.key(0), dataset, NUM)
    refined = post.refine(jax.random.key(1), target=0.0)
    certificate = refined.certificate()
    assert (certificate.verdict, names(refined)) == ("resampled", ["weights", "resample"])
    assert certificate.khat < 0.7
    assert largest_z(post, exact) > 5.0, "There was something to repair."
    assert largest_z(refined, exact) < 4.0
    assert len(np.unique(refined.theta, axis=0)) == NUM, "What came twice has parted."
    with pytest.raises(ValueError, match="After moves"):
        _ = refined.log_prob


def test_draws_are_chosen_from_more_where_gradients_are_dear(net, dataset, exact) -> None:
    """Without moves; the network's further draws have a law of their own and weights that belong to it."""
    task = dataclasses.replace(net.task, has_dear_gradients=True)
    dear = dataclasses.replace(net, network=dataclasses.replace(net.network, task=task))
    padded = net.prepare(dataset).pad_rows(32)
    assert net.more(jax.random.key(5), padded, 100, 2) is None
    thetas, log_weights = dear.more(jax.random.key(5), padded, 100, 2)
    assert thetas.shape == (200, net.task.dim)
    assert len(np.unique(thetas[:, 0])) == 200
    first = dear.sample(jax.random.fold_in(jax.random.key(5), 1), dataset, 100, with_log_prob=True)
    np.testing.assert_allclose(thetas[100:], first.theta, rtol=1e-5)
    np.testing.assert_allclose(log_weights[100:], first.log_weights, atol=1e-3)
    refined = dear.sample(jax.random.key(0), dataset, NUM).refine(jax.random.key(1), target=0.0)
    (step,) = [step for step in refined.certificate().path if step.name == "resample"]
    assert re.match(f"of ({2 * NUM}|{3 * NUM}) draws", step.remark), step.remark
    assert largest_z(refined, exact, 0.9 * NUM) < 4.5


def test_draws_of_a_broken_network_are_moved_until_they_are_exact(broken, dataset, exact) -> None:
    post = broken.sample(jax.random.key(0), dataset, NUM)
    assert largest_z(post, exact) > 12.0
    refined = post.refine(jax.random.key(1))
    assert refined.certificate().verdict in ("polished", "refined")
    assert "reference" not in names(refined)
    assert largest_z(refined, exact) < 4.5
    again = post.refine(jax.random.key(1))
    np.testing.assert_array_equal(again.theta, refined.theta)


def test_moves_that_lead_nowhere_are_noticed(broken, dataset, exact, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stuck chains neither drift nor forget; the reference then takes over, and if it fails nothing is accepted."""

    def stuck(self: Repairs, rng_key, dataset, thetas, num_moves, affine) -> Moved:
        sites = jax.vmap(self.task.constrain, (0, None))(thetas, dataset)
        return Moved(np.stack([thetas] * 3), np.stack([self.log_joint(dataset, thetas)] * 3), dict(sites), 0.0)

    monkeypatch.setattr(Repairs, "move", stuck)
    post = broken.sample(jax.random.key(0), dataset, NUM)
    refined = post.refine(jax.random.key(1))
    assert refined.certificate().verdict == "refined"
    assert names(refined)[-1] == "reference"
    assert largest_z(refined, exact) < 4.5

    def failing(task, dataset, rng_key, num_draws, **options) -> SampleResult:
        sites = {"beta": np.zeros((num_draws, 2)), "sigma2": np.ones(num_draws)}
        return SampleResult(sites, 0.0, 0.0, "failed", "chains disagree")

    monkeypatch.setattr(refinement, "reference_draws", failing)
    rejected = post.refine(jax.random.key(1)).certificate()
    assert rejected.verdict == "rejected"
    assert "chains disagree" in rejected.reasons
    assert "reference" in str(rejected.as_dict()["path"])
    result = RefinedSampler(broken).sample(jax.random.key(0), dataset, NUM)
    assert (result.status, result.verdict) == ("failed", "rejected")


def test_a_second_mode_is_left_to_the_reference(net, dataset, exact) -> None:
    post = net.sample(jax.random.key(0), dataset, NUM)
    note = "the posterior has a second mode with 30% (estimate) of the mass of the first"
    refined = dataclasses.replace(post, notes=(note,)).refine(jax.random.key(1), target=1.0)
    assert (refined.certificate().verdict, names(refined)) == ("refined", ["weights", "reference"])
    assert refined.certificate().reasons == ()
    assert largest_z(refined, exact) < 4.5


def test_an_independent_probe_has_to_agree_where_modes_may_lie_far_apart(net, dataset, monkeypatch) -> None:
    """Draws of a single mode, say: moves are content with them, the probe is not."""
    task = dataclasses.replace(net.task, has_far_modes=True)
    post = net.sample(jax.random.key(0), dataset, NUM)
    apart = dataclasses.replace(post, task=task)
    refined = apart.refine(jax.random.key(1))
    assert (refined.certificate().verdict, names(refined)) == ("polished", ["probe", "polish"])
    weighed = dataclasses.replace(net.sample(jax.random.key(0), dataset, NUM, with_log_prob=True), task=task)
    good = weighed.refine(jax.random.key(1), target=1.0)
    assert (good.certificate().verdict, names(good)) == ("good", ["weights", "probe"])
    probe = Repairs.probe

    def elsewhere(self: Repairs, rng_key, dataset) -> tuple[np.ndarray, bool]:
        thetas, reached = probe(self, rng_key, dataset)
        return thetas + np.where(np.arange(len(thetas)) % 3 == 0, 3.0, 0.0)[:, None], reached

    monkeypatch.setattr(Repairs, "probe", elsewhere)
    refined = apart.refine(jax.random.key(1))
    assert names(refined)[:2] == ["probe", "polish"]
    assert "polished" not in refined.certificate().verdict
    assert "40 more moves" not in names(refined), "Moves do not cross from mode to mode."
    assert weighed.refine(jax.random.key(1), target=1.0).certificate().verdict != "good"


def test_runs_that_disagree_are_made_with_more_particles(net, dataset, exact, monkeypatch) -> None:
    """Where tempered SMC is the reference; chains are not made again."""
    asked: list[int] = []
    result = ExactSampler(net.task).sample(jax.random.key(3), dataset, NUM)

    def hesitant(task, dataset, rng_key, num_draws, *, num_particles: int, **options) -> SampleResult:
        asked.append(num_particles)
        agreed = num_particles > 2000
        return dataclasses.replace(result, status="ok" if agreed else "failed", message="" if agreed else "disagree")

    monkeypatch.setattr(refinement, "reference_draws", hesitant)
    note = "the posterior has a second mode with 30% (estimate) of the mass of the first"
    post = dataclasses.replace(net.sample(jax.random.key(0), dataset, NUM), notes=(note,))
    far = dataclasses.replace(post, task=dataclasses.replace(net.task, has_far_modes=True)).refine(jax.random.key(1))
    assert (far.certificate().verdict, names(far).count("reference")) == ("refined", 3)
    assert asked == sorted(asked)
    assert largest_z(far, exact) < 4.5
    asked.clear()
    near = post.refine(jax.random.key(1))
    assert (near.certificate().verdict, len(asked)) == ("rejected", 1)


def test_resampling_follows_the_weights() -> None:
    generator = np.random.default_rng(0)
    values = generator.normal(size=20_000)
    report = report_weights(0.5 * values)  # tilts a standard normal law to mean 0.5
    chosen = values[resample(generator, report.log_weights, 20_000)]
    assert chosen.mean() == pytest.approx(0.5, abs=0.05)
    assert chosen.std() == pytest.approx(1.0, abs=0.05)


def test_what_can_not_be_refined_says_so(net, dataset) -> None:
    post = net.sample(jax.random.key(0), dataset, NUM)
    with pytest.raises(ValueError, match="target is a total variation"):
        post.refine(jax.random.key(1), target=2.0)
    with pytest.raises(ValueError, match="not known what these draws came from"):
        dataclasses.replace(post, origin=None).refine(jax.random.key(1))
    few = net.sample(jax.random.key(0), dataset, 5).refine(jax.random.key(1))
    assert few.certificate().verdict == "unchecked"


def test_an_odd_number_of_draws_is_moved(net, dataset) -> None:
    thetas = np.random.default_rng(0).normal(size=(33, 3)).astype(np.float32)
    moved = Repairs(net.task, ProgramCache()).move(jax.random.key(0), net.prepare(dataset), thetas, 2, None)
    assert (moved.thetas.shape, moved.log_joint.shape) == ((3, 33, 3), (3, 33))
    assert moved.sites["beta"].shape == (33, 2)
    np.testing.assert_array_equal(moved.thetas[0], thetas)
    for before, after in itertools.pairwise(moved.thetas):
        assert np.mean(np.any(before != after, axis=1)) > 0.5
