"""Networks that start from a Gaussian around every mode: their draws, weights and densities, and exact targets."""

from __future__ import annotations

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.special import logsumexp
from scipy import stats
from two_roots import data, on_grid, two_roots_task

from icl_bayes.flow import Solver
from icl_bayes.nets import ModelConfig
from icl_bayes.tasks import make_task
from icl_bayes.training import FlowConfig, NetworkConfig, TargetsConfig, TaskConfig, build_network
from icl_bayes.training.mode_flow import own_mode
from icl_bayes.training.targets import make_targets
from training.conftest import MODEL

SMALL = {
    **MODEL,
    "base": "modes",
    "inputs": "theta_and_score",
    "smoothed_score": False,
    "parametrization": "residual",
}
TARGETS = TargetsConfig(metric="modes", num_draws=8)
SOLVER = Solver("multistep", 4)


@pytest.fixture(scope="module")
def roots():
    return two_roots_task()


@pytest.fixture(scope="module")
def dataset(roots):
    return data(roots)


@pytest.fixture(scope="module")
def net(roots):
    return build_network(NetworkConfig(model=ModelConfig(**SMALL), targets=TARGETS), roots)


@pytest.fixture(scope="module")
def params(net):
    """Weights that are not zero anywhere: a flow that is not the identity."""
    keys = jax.random.split(jax.random.key(5), 1000)

    @jax.jit
    def moved(weights):
        place = itertools.count()
        return jax.tree.map(lambda leaf: leaf + 0.1 * jax.random.normal(keys[next(place)], leaf.shape), weights)

    return moved(net.init(0))


@pytest.fixture(scope="module")
def base(net, params, dataset):
    return jax.jit(net.find_base)(params, dataset)


@pytest.fixture(scope="module")
def weighted_draws(net, params):
    """``dataset -> (modes, noise, draws)``, compiled once."""
    noise = net.draw_noise(jax.random.split(jax.random.key(7), 20_000))

    @jax.jit
    def drawn(dataset):
        base = net.find_base(params, dataset)
        return base[0], noise, net.draw_from(params, dataset, *base, noise, SOLVER, with_log_prob=True)

    return drawn


@pytest.fixture(scope="module")
def drawn(weighted_draws, dataset):
    modes, _, draws = weighted_draws(dataset)
    return modes, jax.device_get(draws)


@pytest.fixture(scope="module")
def grid(roots, dataset):
    return on_grid(roots, dataset)


def test_base_has_both_roots_with_their_masses(base, grid) -> None:
    modes, info = base
    points, log_joint, _ = grid
    positive = float(jnp.exp(logsumexp(jnp.where(points > 0, log_joint, -jnp.inf)) - logsumexp(log_joint)))
    assert bool(info.is_finite)
    shifts, weights = np.asarray(modes.parts.shift[:, 0]), np.exp(np.asarray(modes.log_weights))
    assert np.sum(weights > 0) == 2
    assert float(np.sum(weights * (shifts > 0))) == pytest.approx(positive, abs=0.05)


def test_steps_of_the_search_at_inference_are_bounded_as_configured(net, params, dataset, base) -> None:
    flow = dataclasses.replace(net.config.flow, base_steps=1)
    hasty = dataclasses.replace(net, config=dataclasses.replace(net.config, flow=flow))
    assert float(jax.jit(hasty.find_base)(params, dataset)[1].decrement) > 3.0 * float(base[1].decrement)
    with pytest.raises(ValueError, match=r"flow\.base_steps must be at least 1; received 0"):
        FlowConfig(base_steps=0)


def test_so_are_those_to_the_closest_gaussian(roots, dataset) -> None:
    model = ModelConfig(**{**SMALL, "base": "variational"})

    def decrement(num_steps: int) -> float:
        config = NetworkConfig(model=model, flow=FlowConfig(base_steps=num_steps))
        net = build_network(config, roots)
        return float(jax.jit(net.find_base)(net.template, dataset)[1].decrement)

    assert decrement(1) > 3.0 * decrement(24)


@pytest.mark.parametrize("mean", [1.0, 0.65])
def test_weights_of_draws_with_their_modes_give_evidence_and_posterior(roots, weighted_draws, mean) -> None:
    dataset = data(roots, mean)
    points, log_joint, log_evidence = on_grid(roots, dataset)
    modes, noise, draws = weighted_draws(dataset)
    assert bool(draws.is_finite)
    log_weights = np.asarray(
        jax.jit(jax.vmap(roots.log_joint, (0, None)))(draws.theta, dataset) - draws.log_prob, float
    )
    weights = np.exp(log_weights - log_evidence)
    error = weights.std() / np.sqrt(len(weights))
    assert error < 0.02
    assert weights.mean() == pytest.approx(1.0, abs=4 * error)
    density = np.exp(np.asarray(log_joint, float) - log_evidence)
    for statistic in (lambda a: a, lambda a: a > 0, lambda a: a**2):
        exact = np.sum(density * statistic(np.asarray(points))) * float(points[1] - points[0])
        terms = weights * np.asarray(statistic(draws.theta[:, 0]))
        assert terms.mean() == pytest.approx(exact, abs=4 * terms.std() / np.sqrt(len(terms)))
    if mean < 1.0:
        # A negative control: without its mode's share a draw's weight is too large wherever the modes overlap.
        which = modes.chosen_by(noise[:, 1])
        log_share = jax.jit(jax.vmap(lambda index, theta: modes.part(index).log_share(theta)))(which, draws.theta)
        without = np.exp(log_weights - np.asarray(log_share, float) - log_evidence)
        assert without.mean() > 1.0 + 10 * without.std() / np.sqrt(len(without))


def test_density_integrates_to_one_and_is_that_of_the_draws(net, params, dataset, drawn) -> None:
    modes, draws = drawn
    points = jnp.linspace(-5.0, 5.0, 801)
    found = jax.jit(lambda at: net.log_prob(params, dataset, modes, at, SOLVER))(points[:, None])
    assert float(jnp.max(found.residual)) < 1e-3
    density = np.exp(np.asarray(found.log_prob, float))
    step = float(points[1] - points[0])
    assert np.sum(density) * step == pytest.approx(1.0, abs=2e-3)
    cumulated = np.cumsum(density) * step
    test = stats.kstest(draws.theta[:, 0], lambda a: np.interp(a, np.asarray(points) + 0.5 * step, cumulated))
    assert test.pvalue > 1e-3


def test_density_of_a_draw_alone_is_that_with_its_mode_where_no_other_reaches(net, params, dataset, drawn) -> None:
    modes, draws = drawn
    far = np.abs(draws.theta[:, 0]) > 1.2
    some = draws.theta[far][:200]
    alone = jax.jit(lambda at: net.log_prob(params, dataset, modes, at, SOLVER).log_prob)(some)
    np.testing.assert_allclose(alone, draws.log_prob[far][:200], atol=2e-3)


def test_flow_without_densities_makes_the_same_draws(net, params, dataset, base, drawn) -> None:
    _, draws = drawn
    noise = net.draw_noise(jax.random.split(jax.random.key(7), 20_000)[:50])
    plain = jax.jit(lambda z: net.draw_from(params, dataset, *base, z, SOLVER))(noise)
    np.testing.assert_allclose(plain.theta, draws.theta[:50], atol=1e-4)
    assert np.isnan(plain.log_prob).all()
    with pytest.raises(ValueError, match="dopri5"):
        net.draw_from(params, dataset, *base, noise, Solver("dopri5", 4), with_log_prob=True)


def test_targets_are_exact_draws_around_one_mode(roots) -> None:
    """The first and the last state of a chain have one law, jointly with the data and the mode."""
    targets_fn = make_targets(roots, dataclasses.replace(TARGETS, num_draws=6), base="modes", with_scores=True)
    keys = jax.random.split(jax.random.key(11), 2000)
    found = jax.jit(lambda keys: jax.lax.map(lambda key: targets_fn(key, jnp.asarray(8), 8), keys, batch_size=50))(keys)
    found = jax.device_get(found)
    kept = found.weight > 0
    assert kept.mean() > 0.97
    first, last = found.theta[kept, 0, 0], found.theta[kept, -1, 0]
    shift, scale = found.affine.shift[kept, 0], found.affine.scale[kept, 0, 0]
    assert np.mean(first == last) < 0.02
    for one, other in ((first, last), ((first - shift) / scale, (last - shift) / scale)):
        assert stats.ks_2samp(one, other).pvalue > 1e-3
    # Pairs: what the data say is the same of both.
    differences = np.sign(shift) * (first - last)
    assert abs(differences.mean()) < 4 * differences.std() / np.sqrt(len(differences))
    # A chain that knew nothing of the shares would leave its mode for the other one's side.
    assert np.mean(np.sign(last) == np.sign(shift)) == pytest.approx(
        np.mean(np.sign(first) == np.sign(shift)), abs=0.03
    )


def test_scores_of_targets_are_those_of_the_posterior_times_the_share(roots, dataset) -> None:
    targets_fn = make_targets(roots, TARGETS, base="modes", with_scores=True)
    one = jax.jit(lambda key: targets_fn(key, jnp.asarray(8), 8))(jax.random.key(2))

    def aimed_at(theta):
        return roots.log_joint(theta, one.dataset) + one.affine.log_share(theta)

    step = 1e-2
    slope = [(aimed_at(theta + step) - aimed_at(theta - step)) / (2 * step) for theta in one.theta]
    np.testing.assert_allclose(one.scores[:, 0], slope, rtol=0.02, atol=0.05)


@pytest.fixture(scope="module")
def mixture():
    """A task, rows, a network, and its search for the modes, compiled once."""
    task = make_task("gmm/2")
    simulate = jax.jit(lambda key: task.simulate(key, jnp.asarray(25), 32)[1])
    config = NetworkConfig(TaskConfig("gmm", 2), ModelConfig(**{**SMALL, "layout": "component"}), targets=TARGETS)
    net = build_network(config)
    return task, jax.device_get(simulate(jax.random.key(4))), net, jax.jit(lambda one: net.find_base(None, one))


def test_a_theta_gets_its_mode_in_one_of_all_orders(mixture) -> None:
    task, dataset, _, find = mixture
    modes, _ = find(dataset)
    theta = modes.part(jnp.asarray(0)).forward(0.3 * jax.random.normal(jax.random.key(0), (task.dim,)))
    mixed = task.relabel(theta, jnp.asarray([2, 0, 1]))
    best = jnp.argmax(modes.log_shares(task.in_all_orders(mixed)))
    keys = jax.random.split(jax.random.key(1), 200)
    chosen_by = jax.jit(jax.vmap(lambda key, theta: own_mode(key, task, modes, theta), (0, None)))
    affine, ordered, is_near = chosen_by(keys, mixed)
    assert bool(jnp.all(is_near))
    chosen = jnp.sum(jnp.abs(ordered - task.in_all_orders(mixed)[best % 6]), axis=1) < 1e-5
    share = float(jnp.exp(jnp.max(modes.log_shares(task.in_all_orders(mixed)))))
    assert float(jnp.mean(chosen)) == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / 200) + 1e-6)
    assert not bool(jnp.any(chosen_by(keys, theta + 20.0)[2]))
    assert affine.shift.shape == (200, task.dim)


def test_components_are_drawn_in_every_order_alike(mixture) -> None:
    task, dataset, net, find = mixture
    noise = net.draw_noise(jax.random.split(jax.random.key(3), 3000))
    draws = jax.jit(lambda z, base: net.draw_from(net.init(0), dataset, *base, z, SOLVER))(noise, find(dataset))
    first = np.asarray(draws.theta)[:, task.components]  # (draws, components, coordinates)
    for index in range(first.shape[2]):
        means = first[:, :, index].mean(axis=0)
        errors = first[:, :, index].std(axis=0) / np.sqrt(len(first))
        assert np.max(np.abs(means - means.mean())) < 4.5 * errors.max()


def test_modes_depend_neither_on_the_order_of_rows_nor_on_padding(mixture) -> None:
    task, dataset, _, find = mixture
    x = np.asarray(dataset["x"])
    turned = dataset.replace(rows={"x": np.concatenate([x[:25][::-1], x[25:]])})
    shorter = dataset.replace(rows={"x": x[:25]}, row_mask=np.asarray(dataset.row_mask)[:25])
    usual = find(dataset)[0]
    for other in (find(turned)[0], find(shorter)[0]):
        np.testing.assert_allclose(np.exp(other.log_weights), np.exp(usual.log_weights), atol=0.02)
        for index in np.flatnonzero(np.exp(np.asarray(usual.log_weights)) > 0.02):
            # Rounding may decide which component comes first.
            same = jnp.abs(task.in_all_orders(other.parts.shift[index]) - usual.parts.shift[index])
            assert float(jnp.min(jnp.max(same, axis=1))) < 0.1


def test_what_does_not_go_together_is_refused() -> None:
    with pytest.raises(ValueError, match=r"model.base=modes is for tasks that look for their modes"):
        build_network(NetworkConfig(model=ModelConfig(**SMALL), targets=TARGETS))
    with pytest.raises(ValueError, match=r"targets.metric=modes needs model.base=modes"):
        NetworkConfig(
            model=ModelConfig(**{**SMALL, "base": "standard"}), flow=FlowConfig(loss="stein_target"), targets=TARGETS
        )
