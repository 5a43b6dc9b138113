"""Every loss is minimized by the true velocity, and by nothing else."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import mixture_target
import numpy as np
import pytest

from icl_bayes.flow import LOSSES, PATHS, Example, Pool, make_loss, make_path, stratified_times

PERTURBATIONS: dict[str, Callable] = {"shift": jnp.ones_like, "scale": lambda x: x, "ripple": lambda x: jnp.sin(3 * x)}
SIZE = 0.3


def arbitrary_spread(x, alpha, sigma, vector):
    """A poor guess, which depends on the state: what is regressed on must not change with it."""
    return sigma**2 * (0.4 + 0.2 * jnp.tanh(x)) * vector


def expected_loss(name: str, path, t: float, velocity_fn: Callable) -> float:
    """Mean over base and target by quadrature."""
    noise, noise_weights = np.polynomial.hermite_e.hermegauss(40)
    target, target_weights = mixture_target.quadrature()
    x0, x1 = (grid.ravel() for grid in np.meshgrid(noise, target))
    weights = np.outer(target_weights, noise_weights / noise_weights.sum()).ravel()
    loss_fn = make_loss(name)
    with jax.numpy_rank_promotion("allow"):
        scores = mixture_target.residual_score(jnp.asarray(x1))
        scores_of_pool = (mixture_target.residual_score(jnp.asarray(target)) - target)[:, None]
    log_weights = jnp.log(jnp.asarray(target_weights, jnp.float32))
    pool = Pool(jnp.asarray(target[:, None], jnp.float32), log_weights, scores_of_pool)

    def one(x0, x1, residual_score):
        example = Example(jnp.asarray(t), x0[None], x1[None], residual_score[None])
        return loss_fn(path, velocity_fn, example, pool, arbitrary_spread)

    losses = jax.jit(jax.vmap(one))(jnp.asarray(x0), jnp.asarray(x1), scores)
    return float(weights @ np.asarray(losses, np.float64))


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("path_name", PATHS)
def test_the_true_velocity_minimizes_the_expected_loss(name: str, path_name: str, strict_rank_promotion: None) -> None:
    """Adding ``e g(x)`` to it costs exactly ``e^2 E[g^2]``: there is no first-order term to gain from."""
    path, t = make_path(path_name), 0.45

    def true_velocity(t, x):
        return mixture_velocity(path, t, x)

    lowest = expected_loss(name, path, t, true_velocity)
    for label, g in PERTURBATIONS.items():
        cost = {
            sign: expected_loss(name, path, t, lambda t, x: true_velocity(t, x) + sign * SIZE * g(x)) - lowest  # noqa: B023
            for sign in (-1, 1)
        }
        assert cost[1] > 0, label
        assert cost[-1] > 0, label
        assert cost[1] == pytest.approx(cost[-1], rel=5e-3), f"{label}: the minimum is elsewhere"
    shifted = expected_loss(name, path, t, lambda t, x: true_velocity(t, x) + SIZE)
    assert shifted - lowest == pytest.approx(SIZE**2, rel=5e-3)


def mixture_velocity(path, t, x):
    """The closed form, called for one draw ``(1,)`` at a time."""
    with jax.numpy_rank_promotion("allow"):
        return mixture_target.true_velocity(path, t, x)


@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_scalars_averaged_over_coordinates(name: str, strict_rank_promotion: None) -> None:
    path, dim = make_path("linear"), 3
    example = Example(jnp.asarray(0.3), jnp.zeros(dim), jnp.zeros(dim), jnp.zeros(dim))
    pool = Pool(jnp.zeros((2, dim)), jnp.zeros(2), jnp.zeros((2, dim)))
    loss = make_loss(name)(path, lambda t, x: jnp.asarray([1.0, 2.0, 0.0]), example, pool, arbitrary_spread)
    assert loss.shape == ()
    assert float(loss) == pytest.approx(5.0 / 3.0)


def test_target_score_has_no_variance_for_a_gaussian_posterior() -> None:
    """With the matching base the residual score vanishes, so the regression target is known exactly."""
    path = make_path("cosine")
    noise, draws = np.random.default_rng(0).normal(size=(2, 500, 1)).astype(np.float32)
    velocity = lambda t, x: path.drift(t) * x  # noqa: E731
    losses = {}
    for name in ("flow_matching", "target_score"):
        one = lambda x0, x1, name=name: make_loss(name)(  # noqa: E731
            path, velocity, Example(jnp.asarray(0.5), x0, x1, jnp.zeros(1))
        )
        losses[name] = np.asarray(jax.jit(jax.vmap(one))(noise, draws))
    assert losses["target_score"].max() < 1e-10
    assert losses["flow_matching"].mean() > 0.5


class TestStableTarget:
    """A pool of draws takes most of the variance out of what is regressed on."""

    path = make_path("cosine")

    def losses(self, pool_size: int, num: int = 4000) -> np.ndarray:
        """Losses of the true velocity of a standard normal target, against pools that hold ``x1``."""

        def one(key):
            draws = jax.random.normal(key, (pool_size + 1, 1))
            t = jax.random.uniform(jax.random.fold_in(key, 1))
            example = Example(t, draws[-1], draws[0], jnp.zeros(1))
            pool = Pool(draws[:-1], jnp.zeros(pool_size))
            return make_loss("stable_target")(self.path, lambda t, x: self.path.drift(t) * x, example, pool)

        return np.asarray(jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(0), num)))

    def test_variance_falls_with_the_size_of_the_pool(self) -> None:
        alone, few, many = (self.losses(size).mean() for size in (1, 8, 64))
        assert alone == pytest.approx(np.pi**2 / 4, rel=0.1)  # the conditional velocity has this variance
        assert few < 0.4 * alone
        assert many < 0.4 * few

    def test_alone_it_is_flow_matching(self) -> None:
        x0, x1 = jnp.asarray([0.3, -1.0]), jnp.asarray([1.2, 0.1])
        example = Example(jnp.asarray(0.4), x0, x1, jnp.zeros(2))
        pool = Pool(x1[None], jnp.zeros(1))
        two = [make_loss(name)(self.path, lambda t, x: x, example, pool) for name in ("stable_target", "flow_matching")]
        assert float(two[0]) == pytest.approx(float(two[1]), rel=1e-5)

    def test_weights_count(self) -> None:
        """A draw of no weight might as well not be there, even if it lies at hand."""
        example = Example(jnp.asarray(0.4), jnp.asarray([0.3]), jnp.asarray([1.2]), jnp.zeros(1))
        pool = Pool(jnp.asarray([[1.2], [1.0]]), jnp.asarray([0.0, -1e9]))
        alone = Pool(pool.draws[:1], jnp.zeros(1))
        loss = lambda pool: float(make_loss("stable_target")(self.path, lambda t, x: x, example, pool))  # noqa: E731
        assert loss(pool) == pytest.approx(loss(alone))
        assert loss(pool) != pytest.approx(loss(pool._replace(log_weights=jnp.zeros(2))), rel=1e-3)

    def test_a_pool_is_needed(self) -> None:
        example = Example(jnp.asarray(0.4), jnp.zeros(1), jnp.zeros(1), jnp.zeros(1))
        with pytest.raises(ValueError, match="stable_target needs a pool"):
            make_loss("stable_target")(self.path, lambda t, x: x, example)


class TestSteinTarget:
    """Stein's identity takes the noise out of what is regressed on, and leaves its mean alone."""

    path = make_path("cosine")
    sd = 0.2

    def errors(self, name: str, t: float, spread_of: float, num: int = 4000) -> np.ndarray:
        """Losses of the true velocity of N(0, sd^2), with a pool of the one draw ``x1``; the spread's size is given."""
        alpha, sigma, alpha_dot, sigma_dot = self.path.coefficients(jnp.asarray(t))
        precision = self.sd**-2 + (alpha / sigma) ** 2

        def velocity(t, x):
            mean = alpha / sigma**2 / precision * x
            return alpha_dot * mean + sigma_dot / sigma * (x - alpha * mean)

        def one(key):
            x0, draw = jax.random.normal(key, (2, 1))
            x1 = self.sd * draw
            pool = Pool(x1[None], jnp.zeros(1), -x1[None] / self.sd**2)
            spread = lambda x, alpha, sigma, vector: spread_of * vector / precision  # noqa: E731
            return make_loss(name)(self.path, velocity, Example(jnp.asarray(t), x0, x1, x1), pool, spread)

        return np.asarray(jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(0), num)))

    def test_no_noise_is_left_near_the_data_of_a_gaussian(self) -> None:
        assert self.errors("stable_target", 0.95, 1.0).mean() > 0.02
        assert self.errors("stein_target", 0.95, 1.0).max() < 1e-4

    def test_it_fades_out_towards_the_noise(self) -> None:
        plain, stein = (self.errors(name, 0.02, 1.0) for name in ("stable_target", "stein_target"))
        np.testing.assert_allclose(stein, plain, rtol=0.02)

    def test_a_spread_too_small_helps_and_one_too_large_harms(self) -> None:
        small, none, large = (self.errors("stein_target", 0.9, factor).mean() for factor in (0.5, 0.0, 3.0))
        assert small < 0.5 * none < 0.5 * large

    def test_scores_and_a_spread_are_needed(self) -> None:
        example = Example(jnp.asarray(0.4), jnp.zeros(1), jnp.zeros(1), jnp.zeros(1))
        pool = Pool(jnp.zeros((1, 1)), jnp.zeros(1))
        with pytest.raises(ValueError, match="stein_target needs a pool of draws with their scores, and a spread"):
            make_loss("stein_target")(self.path, lambda t, x: x, example, pool, arbitrary_spread)


def test_times_are_stratified_in_random_order() -> None:
    times = np.asarray(stratified_times(jax.random.key(0), 8, 0.5))
    np.testing.assert_array_equal(np.sort((times / 0.5 * 8).astype(int)), np.arange(8))
    assert ((times > 0) & (times < 0.5)).all()
    assert (np.diff(times) < 0).any()
    assert not np.array_equal(times, stratified_times(jax.random.key(1), 8, 0.5))


def test_unknown_losses_list_the_choices() -> None:
    with pytest.raises(
        ValueError,
        match=r"Unknown loss 'score'; choices: \['flow_matching', 'stable_target', 'stein_target', 'target_score'\]",
    ):
        make_loss("score")
