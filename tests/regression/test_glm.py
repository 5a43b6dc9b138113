"""``icl_bayes.glm`` against quadrature and against itself: equal data, equal models, new rows, and what is refused."""

from __future__ import annotations

import jax
import numpy as np
import pandas as pd
import pytest
import scipy.stats

import icl_bayes
from icl_bayes.regression.design import make_design


def table(num: int = 60) -> pd.DataFrame:
    generator = np.random.default_rng(3)
    frame = pd.DataFrame({"x": generator.normal(size=num), "group": generator.choice(["a", "b", "c"], size=num)})
    linear = 0.4 + 0.6 * frame.x + frame.group.map({"a": 0.0, "b": 0.5, "c": -0.5})
    frame["count"] = generator.poisson(np.exp(linear))
    frame["answer"] = np.where(generator.uniform(size=num) < 1.0 / (1.0 + np.exp(-linear)), "yes", "no")
    frame["value"] = linear + 0.5 * generator.normal(size=num)
    return frame


@pytest.fixture(scope="module")
def poisson():
    return icl_bayes.glm("count ~ x + C(group)", table(), "poisson", num_draws=2000)


def grid_moments(log_density, *grids):
    """Mean and sd of two coordinates by quadrature over a grid of each."""
    values = log_density(grids[0][:, None], grids[1][None, :])
    weights = np.exp(values - values.max())
    assert max(weights[0].max(), weights[-1].max(), weights[:, -1].max()) < 1e-4  # the grid holds the mass
    means, sds = [], []
    for axis, grid in enumerate(grids):
        share = weights.sum(axis=1 - axis) / weights.sum()
        means.append(share @ grid)
        sds.append(np.sqrt(share @ (grid - means[-1]) ** 2))
    return np.asarray(means), np.asarray(sds)


@pytest.mark.parametrize("prior", ["normal(0, 1)", "laplace(0.2, 0.5)", "half_normal(1)"])
def test_logistic_regression_by_quadrature(prior):
    """Twelve rows, where posteriors are skewed: certified moments are those of the grid within Monte Carlo error."""
    frame = table(12)
    frame["z"] = (frame.answer == "yes").astype(float)
    priors = {"x": prior, "Intercept": "student_t(4, 0, 1)"}
    found = icl_bayes.glm("z ~ x", frame, "bernoulli", priors, num_draws=4000)
    assert found.certificate.verdict in ("good", "resampled", "polished", "refined")
    laws = {
        "normal(0, 1)": scipy.stats.norm(0.0, 1.0).logpdf,
        "laplace(0.2, 0.5)": scipy.stats.laplace(0.2, 0.5).logpdf,
        "half_normal(1)": scipy.stats.halfnorm(scale=1.0).logpdf,
    }

    def log_density(a, b):
        linear = a[..., None] + b[..., None] * frame.x.to_numpy()
        likelihood = np.sum(frame.z.to_numpy() * linear - np.logaddexp(0.0, linear), axis=-1)
        return likelihood + scipy.stats.t(4.0).logpdf(a) + laws[prior](b)

    half = np.linspace(0.0, 8.0, 801)[1:] - 0.005  # midpoints, as the edge may hold mass
    slopes = half if "half" in prior else np.linspace(-6.0, 8.0, 301)
    means, sds = grid_moments(log_density, np.linspace(-6.0, 7.0, 301), slopes)
    draws = found.draws.to_numpy()
    error = 4.5 * sds / np.sqrt(4000 * 0.7)
    assert np.abs(draws.mean(axis=0) - means).max() < error.max()
    np.testing.assert_allclose(draws.std(axis=0), sds, rtol=0.08)


def test_names_summary_and_certificate(poisson):
    assert poisson.names == ["Intercept", "x", "C(group)[T.b]", "C(group)[T.c]"]
    summary = poisson.summary()
    assert list(summary.index) == poisson.names
    assert summary.loc["x", "5%"] < 0.6 < summary.loc["x", "95%"]
    assert summary.loc["x", "prior"].startswith("normal(0, ")
    assert poisson.certificate.verdict in ("good", "resampled", "polished")
    assert poisson.engine.startswith(("closest Gaussian", "parallel HMC"))
    assert "rows" in repr(poisson)
    assert set(poisson.to_inference_data()["posterior"].data_vars) == {"intercept", "beta"}


def test_new_rows_are_predicted_with_the_levels_of_the_data(poisson):
    rows = pd.DataFrame({"x": [0.0, 0.0, 1.0], "group": ["a", "c", "a"]})
    means = poisson.mean(rows)
    assert means.shape == (2000, 3)
    assert means[:, 1].mean() < means[:, 0].mean() < means[:, 2].mean()
    draws = poisson.predict(jax.random.key(0), rows)
    error = 4.5 * np.sqrt(draws.var(axis=0) / 2000)
    assert (np.abs(draws.mean(axis=0) - means.mean(axis=0)) < error + 0.02).all()
    with pytest.raises(ValueError, match="do not fit the formula"):
        poisson.predict(jax.random.key(0), pd.DataFrame({"x": [0.0], "group": ["d"]}))
    with pytest.raises(ValueError, match=r"lack the column\(s\) group"):
        poisson.mean(pd.DataFrame({"x": [0.0]}))


@pytest.mark.slow
def test_successes_are_predicted_by_their_trials():
    """Shares of successes and their spread, from an intercept alone, whose posterior is nearly a beta law."""
    frame = pd.DataFrame({"successes": [3, 5, 4, 6, 2], "trials": [10, 12, 9, 14, 8]})
    model = icl_bayes.glm("successes ~ 1", frame, "binomial", {"Intercept": "normal(0, 10)"}, trials="trials")
    assert model.mean(frame)[:, 0].mean() == pytest.approx(20 / 53, abs=0.02)
    draws = model.predict(jax.random.key(0), pd.DataFrame({"trials": [1000]}), trials="trials")
    assert draws.std() == pytest.approx(1000 * np.sqrt(20 / 53 * 33 / 53 / 53), rel=0.15)
    with pytest.raises(ValueError, match="say which column counts them"):
        model.predict(jax.random.key(0), frame)


def test_weights_stand_for_repeated_rows(poisson):
    """The same posterior whether rows are repeated, weighted, or counted together."""
    frame = table()
    frame["times"] = 1 + np.arange(len(frame)) % 3
    repeated = frame.loc[np.repeat(frame.index, frame.times)]
    weighted = icl_bayes.glm("count ~ x + C(group)", frame, "poisson", weights="times", num_draws=2000)
    plain = icl_bayes.glm("count ~ x + C(group)", repeated, "poisson", num_draws=2000)
    priors = {str(one) for one in plain.priors.coefficients}
    assert len(plain.posterior.dataset["y"]) == len(frame)  # counted together
    stated = dict(zip(plain.names[1:], plain.priors.coefficients, strict=True)) | {"Intercept": plain.priors.intercept}
    weighted = icl_bayes.glm("count ~ x + C(group)", frame, "poisson", stated, weights="times", num_draws=2000)
    assert priors
    difference = weighted.draws.mean() - plain.draws.mean()
    assert (difference.abs() < 5.0 * plain.draws.std() * np.sqrt(2.0 / 2000)).all()
    # Single observations are left out, whatever rows they were counted into.
    assert len(weighted.responses) == len(plain.responses) == len(repeated)
    np.testing.assert_array_equal(plain.responses, repeated["count"])
    assert weighted.loo().elpd == pytest.approx(plain.loo().elpd, abs=1.0)
    whole = plain.log_likelihood().sum(axis=1)
    np.testing.assert_allclose(whole, plain.posterior.log_likelihood().sum(axis=1), rtol=1e-5)


@pytest.mark.slow
def test_models_compare_by_what_they_say_of_left_out_rows(poisson):
    smaller = icl_bayes.glm("count ~ 1", table(), "poisson")
    found = icl_bayes.compare({"without": smaller, "with": poisson})
    assert list(found.index) == ["with", "without"]
    assert found.loc["without", "difference"] < -found.loc["without", "error"] / 2
    assert found.loc["with", "log evidence"] > found.loc["without", "log evidence"]
    with pytest.raises(ValueError, match="other responses"):
        icl_bayes.compare({"one": poisson, "other": icl_bayes.glm("value ~ 1", table(), num_draws=500)})


@pytest.mark.slow
def test_groups_at_once():
    frame = table(90)
    found = icl_bayes.glm_batch("count ~ x", frame, "group", "poisson", num_draws=500)
    assert set(found) == {"a", "b", "c"}
    assert found["b"].summary().loc["Intercept", "mean"] > found["c"].summary().loc["Intercept", "mean"]
    alone = icl_bayes.glm(
        "count ~ x",
        frame[frame.group == "b"],
        "poisson",
        num_draws=500,
        rng_key=jax.random.fold_in(jax.random.key(0), list(frame.group.unique()).index("b")),
    )
    assert alone.certificate.verdict == found["b"].certificate.verdict
    np.testing.assert_allclose(alone.draws, found["b"].draws, atol=1e-3)


def test_groups_that_cannot_be_fitted():
    frame = table(60)
    with pytest.raises(ValueError, match="lack the column 'grou'"):
        icl_bayes.glm_batch("count ~ x", frame, "grou", "poisson")
    with pytest.raises(ValueError, match="choices: raise, warn"):
        icl_bayes.glm_batch("count ~ x", frame, "group", "poisson", on_error="ignore")
    frame.loc[frame.group == "b", "count"] -= 100
    with pytest.raises(ValueError, match="Group 'b'"):
        icl_bayes.glm_batch("count ~ x", frame, "group", "poisson")
    frame["group"] = frame.group.where(frame.index != frame.index[3])
    with pytest.raises(ValueError, match="has 1 missing cells"):
        icl_bayes.glm_batch("count ~ x", frame, "group", "poisson")


@pytest.mark.slow
def test_groups_that_cannot_be_fitted_are_left_out_if_wanted():
    frame = table(60)
    frame.loc[frame.group == "b", "count"] -= 100
    with pytest.warns(UserWarning, match="Group 'b' is left out"):
        found = icl_bayes.glm_batch("count ~ x", frame, "group", "poisson", num_draws=200, on_error="warn")
    assert set(found) == {"a", "c"}


def test_other_kinds_of_frames():
    frame = table()
    found = make_design("answer ~ x + group", {name: frame[name].tolist() for name in frame.columns})
    assert found.columns == ("x", "group[T.b]", "group[T.c]")
    assert found.levels == ("no", "yes")
    np.testing.assert_array_equal(found.y, (frame.answer == "yes").to_numpy())
    without = make_design("value ~ 0 + x", frame)
    assert (without.has_intercept, without.columns) == (False, ("x",))


def test_missing_cells_are_refused_or_dropped():
    frame = table()
    frame.loc[3, "x"] = np.nan
    with pytest.raises(ValueError, match=r"1 of 60 rows have missing cells \(\{'x': 1\}\)"):
        make_design("count ~ x", frame)
    assert len(make_design("count ~ x", frame, missing="drop").y) == 59
    assert len(make_design("count ~ 1", frame).y) == 60  # the column is not used


@pytest.mark.parametrize(
    ("formula", "options", "message"),
    [
        ("count ~ speed", {}, r"lack the column\(s\) speed"),
        ("count", {}, "names response and columns"),
        ("count ~ x +* group", {}, "cannot be read"),
        ("answer ~ x", {}, "is for bernoulli"),
        ("group ~ x", {"family": "bernoulli"}, "expected one column of numbers, or of two levels"),
        ("count ~ x", {"family": "binomial"}, "which column counts the trials"),
        ("count ~ x", {"family": "poisson", "precision": "x"}, "precision is for the family gaussian"),
        ("value ~ x", {"family": "poisson"}, "whole numbers from 0 on"),
        ("count ~ x", {"family": "poisson", "priors": {"z": "normal(0, 1)"}}, "which the model does not have"),
        ("count ~ x", {"family": "poisson", "offset": "group"}, "'group' must be numbers"),
        ("count ~ x + one", {"family": "poisson"}, r"Column\(s\) one are constant"),
        ("count ~ x", {"family": "probit"}, "Unknown family"),
    ],
)
def test_what_does_not_fit_is_refused(formula, options, message):
    with pytest.raises(ValueError, match=message):
        icl_bayes.glm(formula, table().assign(one=1.0), **options)


def test_too_many_rows_are_refused():
    generator = np.random.default_rng(0)
    frame = pd.DataFrame({"x": generator.normal(size=20_001), "y": generator.normal(size=20_001)})
    with pytest.raises(ValueError, match="20001 different rows"):
        icl_bayes.glm("y ~ x", frame)


def test_the_figure_shows_columns_and_responses(poisson):
    figure = poisson.plot()
    left, right = figure.axes
    assert [label.get_text() for label in left.get_yticklabels()] == poisson.names[1:]
    assert len(right.lines[0].get_xdata()) == 60
