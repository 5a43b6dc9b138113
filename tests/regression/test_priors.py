"""Priors as users state them, their laws, and the defaults."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from icl_bayes.regression import Prior
from icl_bayes.regression.priors import default_priors, stated_priors
from icl_bayes.tasks.coefficient_priors import KINDS, MixedPrior, code_of
from icl_bayes.tasks.coordinates import resolve

LAWS = {
    "normal": (Prior("normal", 1.0, 2.0), scipy.stats.norm(1.0, 2.0)),
    "student_t": (Prior("student_t", -1.0, 0.5, 3.0), scipy.stats.t(3.0, -1.0, 0.5)),
    "laplace": (Prior("laplace", 0.5, 1.5), scipy.stats.laplace(0.5, 1.5)),
    "half_normal": (Prior("half_normal", 0.0, 2.0), scipy.stats.halfnorm(scale=2.0)),
    "half_student_t": (Prior("half_student_t", 0.0, 2.0, 3.0), scipy.stats.t(3.0, 0.0, 2.0)),  # twice, above zero
    "gamma": (Prior("gamma", 0.0, 0.5, 2.5), scipy.stats.gamma(2.5, scale=0.5)),
    "root_inverse_gamma": (Prior("root_inverse_gamma", 0.0, 1.4, 5.0), scipy.stats.gengamma(5.0, -2.0, scale=1.4)),
}


def mixed() -> MixedPrior:
    priors = [LAWS[kind][0] for kind in KINDS]
    return MixedPrior(
        jnp.asarray([float(code_of(one.kind)) for one in priors]),
        jnp.asarray([one.loc for one in priors]),
        jnp.asarray([one.scale for one in priors]),
        jnp.asarray([one.shape for one in priors]),
    )


def density(kind: str, values: np.ndarray) -> np.ndarray:
    law = LAWS[kind][1]
    return law.logpdf(values) + (np.log(2.0) if kind == "half_student_t" else 0.0)


def test_all_kinds_at_once_have_their_densities():
    values = np.linspace(0.25, 6.0, 40)
    found = jax.jit(jax.vmap(mixed().log_prob))(jnp.broadcast_to(values[:, None], (40, len(KINDS))))
    for column, kind in enumerate(KINDS):
        np.testing.assert_allclose(found[:, column], density(kind, values), rtol=2e-5, atol=2e-5)
    negative = mixed().log_prob(jnp.full(len(KINDS), -0.3))
    assert [bool(np.isfinite(value)) for value in negative] == [True, True, True, False, False, False, False]


def test_all_kinds_at_once_are_drawn_from():
    draws = np.asarray(mixed().sample(jax.random.key(0), (4000,)), np.float64)
    for column, kind in enumerate(KINDS):
        law = LAWS[kind][1]
        cdf = (lambda x, law=law: 2.0 * law.cdf(x) - 1.0) if kind == "half_student_t" else law.cdf
        assert scipy.stats.kstest(draws[:, column], cdf).pvalue > 1e-4, kind


def test_the_coordinate_has_the_density_of_the_prior_and_an_inverse():
    coordinate, fn = resolve(mixed().to_event(1))
    assert coordinate.name == "mixed_prior"
    grid = jnp.linspace(-1.2, 1.8, 25)
    for column, kind in enumerate(KINDS):

        def one(u, column=column):
            value, log_density = coordinate.constrain(fn, jnp.zeros(len(KINDS)).at[column].set(u))
            return value[column], log_density

        values, log_density = jax.jit(jax.vmap(one))(grid)
        slopes = jax.jit(jax.vmap(jax.grad(lambda u: one(u)[0])))(grid)
        expected = density(kind, np.asarray(values, np.float64)) + np.log(np.asarray(slopes))
        rest = np.asarray(log_density) - expected  # the other coordinates, which stay where they are
        np.testing.assert_allclose(rest, rest[0], atol=2e-3)
    point = jnp.asarray([0.3, -0.8, 1.2, 0.4, -0.5, 0.7, 0.2])
    np.testing.assert_allclose(coordinate.unconstrain(fn, coordinate.constrain(fn, point)[0]), point, atol=2e-4)


def test_text_becomes_priors_and_back():
    assert Prior.of("normal(0, 2.5)") == Prior("normal", 0.0, 2.5)
    assert Prior.of(" student_t(3, 0, 1) ") == Prior("student_t", 0.0, 1.0, 3.0)
    assert Prior.of("gamma(2, 4)") == Prior("gamma", 0.0, 0.25, 2.0)
    assert Prior.of("exponential(2)") == Prior("gamma", 0.0, 0.5, 1.0)
    for text in ("normal(0, 2.5)", "student_t(3, 0, 1)", "half_normal(2)", "half_student_t(3, 2)", "gamma(2, 4)"):
        assert str(Prior.of(text)) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cauchy(0, 1)", "is no prior; forms: normal"),
        ("normal", "is no prior"),
        ("normal(0)", r"takes 2 number\(s\), normal\(loc, scale\)"),
        ("normal(0, x)", "could not convert"),
        ("normal(0, -1)", "positive scale"),
        ("gamma(2, 0)", "a rate is positive"),
    ],
)
def test_text_that_is_no_prior_is_explained(text, message):
    with pytest.raises(ValueError, match=message):
        Prior.of(text)


def test_defaults_follow_the_scale_of_the_data():
    generator = np.random.default_rng(0)
    x = np.column_stack([generator.normal(50.0, 10.0, 200), generator.normal(size=200)])
    y = 3.0 + 4.0 * generator.normal(size=200)
    priors = default_priors("gaussian", x, y, np.zeros(200), intercept=True)
    assert priors.coefficients[0].scale == pytest.approx(2.5 * y.std() / x[:, 0].std())
    assert priors.intercept is not None
    assert priors.intercept.loc == pytest.approx(y.mean())
    # A slope of one prior standard deviation moves the intercept by its product with the column's mean.
    assert priors.intercept.scale == pytest.approx(
        np.sqrt((2.5 * y.std()) ** 2 + np.sum((2.5 * y.std() / x.std(0) * x.mean(0)) ** 2))
    )
    assert priors.dispersion == Prior("half_student_t", 0.0, float(y.std()), 3.0)
    rescaled = default_priors("gaussian", 1000.0 * x, y, np.zeros(200), intercept=True)
    assert rescaled.coefficients[0].scale == pytest.approx(priors.coefficients[0].scale / 1000.0)


def test_stated_priors_take_the_place_of_defaults():
    defaults = default_priors("gaussian", np.eye(4)[:, :3], np.arange(4.0), np.zeros(4), intercept=True)
    stated = {"b": "half_normal(2)", "coefficients": "laplace(0, 1)", "sigma": "exponential(1)"}
    found = stated_priors(stated, defaults, ["a", "b", "c"], "gaussian")
    assert [one.kind for one in found.coefficients] == ["laplace", "half_normal", "laplace"]
    assert found.intercept == defaults.intercept
    with pytest.raises(ValueError, match="which the model does not have"):
        stated_priors({"d": "normal(0, 1)"}, defaults, ["a", "b", "c"], "gaussian")
    with pytest.raises(ValueError, match="The prior of sigma must be positive"):
        stated_priors({"sigma": "normal(0, 1)"}, defaults, ["a", "b", "c"], "gaussian")


def test_laplace_coordinates_have_their_values_and_slopes_at_the_median_too() -> None:
    """Searches begin at zero, where a map made of sign and absolute value would have no slope."""
    u = np.asarray([-4.0, -0.3, 0.0, 0.3, 4.0], np.float32)
    law = scipy.stats.laplace(0.5, 1.5)

    def value(u: jax.Array) -> jax.Array:
        prior = MixedPrior(jnp.asarray(float(code_of("laplace"))), 0.5, 1.5, 4.0)
        coordinate, fn = resolve(prior)
        return coordinate.constrain(fn, u)[0]

    exact = law.ppf(scipy.stats.norm.cdf(u))
    np.testing.assert_allclose(jax.jit(jax.vmap(value))(u), exact, rtol=1e-5)
    slope = np.exp(scipy.stats.norm.logpdf(u) - law.logpdf(exact))
    np.testing.assert_allclose(jax.jit(jax.vmap(jax.grad(value)))(u), slope, rtol=1e-4)
