"""Networks that start from a warped Gaussian: chains in its coordinates, densities of draws, and what is refused."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import moved_weights
from jax.scipy.special import logsumexp
from scipy import stats
from two_roots import data, on_grid, two_roots_task

from icl_bayes.baselines.moves import polish
from icl_bayes.flow import Affine, Solver, identity_affine
from icl_bayes.flow.warp import Warp
from icl_bayes.nets import ModelConfig
from icl_bayes.training import FlowConfig, NetworkConfig, TargetsConfig, build_network
from icl_bayes.training.targets import exact_start_chain
from training.conftest import MODEL

SMALL = {**MODEL, "base": "warped", "inputs": "theta", "parametrization": "residual", "summaries": True}
SOLVER = Solver("multistep", 8)
TASK = two_roots_task()
DATASET = data(TASK)
WARPED = Affine(
    jnp.zeros(1),
    jnp.full((1, 1), 0.5),
    jnp.full((1, 1), 2.0),
    jnp.log(0.5),
    warp=Warp(jnp.asarray([0.1]), jnp.ones(1), jnp.asarray(1.5)),
)
"""With long tails, about as wide as the posterior."""
WIDTHS = jnp.asarray([0.03, 0.3, 1.0])
CHAIN = TargetsConfig(num_draws=4, num_moves=2, num_leapfrogs=3)


def spiky(theta):
    return logsumexp(-0.5 * jnp.sum(theta**2) / WIDTHS**2 - len(theta) * jnp.log(WIDTHS))


@pytest.fixture(scope="module")
def net():
    return build_network(NetworkConfig(model=ModelConfig(**SMALL), targets=TargetsConfig(metric="warped")), TASK)


@pytest.fixture(scope="module")
def params(net):
    """Weights that are not zero anywhere: a flow that is not the identity."""
    return moved_weights(net.init(0), 0.1)


@pytest.fixture(scope="module")
def drawn(net, params):
    """The base, and draws from it with their densities."""
    noise = net.draw_noise(jax.random.split(jax.random.key(7), 20_000))

    @jax.jit
    def run(dataset):
        _, info = net.find_base(params, dataset)
        return net.draw_from(params, dataset, WARPED, info, noise, SOLVER, with_log_prob=True)

    return WARPED, jax.device_get(run(DATASET))


def last_of_chain(correction: float) -> np.ndarray:
    """Paired z-scores of second moments of 4000 exact draws and where chains from them end."""
    affine = identity_affine(2)._replace(warp=Warp(jnp.zeros(2), jnp.ones(2), jnp.asarray(3.0)))

    def density(theta):
        return spiky(theta) + correction * affine.log_volume(affine.backward(theta))

    which_key, noise_key, chain_key = jax.random.split(jax.random.key(0), 3)
    width = WIDTHS[jax.random.randint(which_key, (4000, 1), 0, 3)]
    theta = width * jax.random.normal(noise_key, (4000, 2))
    chain = jax.jit(jax.vmap(lambda key, one: exact_start_chain(key, density, affine, one, CHAIN)[0][-1]))
    end = chain(jax.random.split(chain_key, 4000), theta)
    assert np.mean(np.any(np.asarray(end) != theta, axis=1)) > 0.9
    columns = np.asarray(jnp.concatenate([jnp.log(jnp.abs(end)) - jnp.log(jnp.abs(theta)), end**2 - theta**2], axis=1))
    return columns.mean(axis=0) / (columns.std(axis=0) / np.sqrt(len(columns)))


def test_chains_in_warped_coordinates_leave_the_law_alone() -> None:
    assert np.abs(last_of_chain(0.0)).max() < 4.0


def test_chains_that_forget_the_volume_are_caught() -> None:
    assert np.abs(last_of_chain(-1.0)).max() > 8.0


def polished() -> float:
    """How likely exact draws are as they are after forty moves."""
    points, log_joint, log_evidence = on_grid(TASK, DATASET)
    cumulated = np.cumsum(np.exp(np.asarray(log_joint, float) - log_evidence)) * float(points[1] - points[0])
    exact = np.interp(np.random.default_rng(0).uniform(size=20_000), cumulated, np.asarray(points))[:, None]
    starts, pilots = jnp.asarray(exact[64:], jnp.float32), jnp.asarray(exact[:64], jnp.float32)
    keys = jax.random.split(jax.random.key(1), len(starts))
    moved, info = jax.jit(lambda: polish(jax.random.key(2), keys, TASK, DATASET, WARPED, starts, pilots, 40))()
    assert float(info.acceptance) > 0.02
    return float(stats.kstest(np.asarray(moved[0, :, 0]), lambda a: np.interp(a, points, cumulated)).pvalue)


def test_moves_in_warped_coordinates_leave_the_posterior_alone() -> None:
    assert polished() > 1e-3


def test_moves_that_forget_the_volume_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Affine, "pulled_back", lambda self, density: lambda u: density(self.forward(u)))
    assert polished() < 1e-6


def test_weights_of_draws_give_the_evidence(net, drawn) -> None:
    affine, draws = drawn
    assert bool(draws.is_finite)
    log_joint = np.asarray(jax.jit(jax.vmap(TASK.log_joint, (0, None)))(draws.theta, DATASET), float)
    *_, log_evidence = on_grid(TASK, DATASET)
    weights = np.exp(log_joint - draws.log_prob - log_evidence)
    error = weights.std() / np.sqrt(len(weights))
    assert error < 0.05
    assert weights.mean() == pytest.approx(1.0, abs=4 * error)
    # A negative control: the density of one whose slope is the same everywhere.
    flat = Affine(*affine[:4])
    wrong = weights * np.exp(np.asarray(flat.log_det - affine.log_volume(affine.backward(draws.theta)), float))
    assert abs(wrong.mean() - 1.0) > 10 * wrong.std() / np.sqrt(len(wrong))


def test_density_integrates_to_one_and_is_that_of_the_draws(net, params, drawn) -> None:
    affine, draws = drawn
    points = jnp.linspace(-6.0, 6.0, 1201)
    found = jax.jit(lambda at: net.log_prob(params, DATASET, affine, at, SOLVER))(points[:, None])
    density = np.exp(np.asarray(found.log_prob, float))
    step = float(points[1] - points[0])
    cumulated = np.cumsum(density) * step
    inside = np.mean(np.abs(draws.theta) < 6.0)
    assert cumulated[-1] == pytest.approx(inside, abs=5e-3)
    test = stats.kstest(draws.theta[:, 0], lambda a: np.interp(a, np.asarray(points) + 0.5 * step, cumulated))
    assert test.pvalue > 1e-3
    again = jax.jit(lambda at: net.log_prob(params, DATASET, affine, at, SOLVER).log_prob)(draws.theta[:200])
    np.testing.assert_allclose(again, draws.log_prob[:200], atol=5e-3)


def test_what_a_warped_base_is_not_for() -> None:
    with pytest.raises(ValueError, match="targets.metric=warped needs model.base=warped"):
        NetworkConfig(
            model=ModelConfig(base="standard", inputs="theta", parametrization="velocity"),
            flow=FlowConfig("cosine", "stable_target"),
            targets=TargetsConfig(metric="warped"),
        )
    with pytest.raises(ValueError, match="model.layout=column needs model.base=laplace or variational or pilots"):
        ModelConfig(base="warped", encoder="columns", layout="column")
    with pytest.raises(ValueError, match="with model.base=warped the base is the metric"):
        NetworkConfig(model=ModelConfig(**SMALL), flow=FlowConfig("cosine"), targets=TargetsConfig(metric="pilots"))
