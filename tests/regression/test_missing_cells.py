"""Missing cells: their law against closed forms, the regression against quadrature, and what is refused."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import scipy.stats

import icl_bayes
from icl_bayes.regression.missing import MAX_CELLS, column_moments, missing_cells
from icl_bayes.tasks.regression import make_regression


def correlated(num: int, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    factor = np.linalg.cholesky([[4.0, 1.2, 0.6], [1.2, 1.0, -0.2], [0.6, -0.2, 2.0]])
    return np.asarray([10.0, 0.0, -3.0]) + generator.normal(size=(num, 3)) @ factor.T


# ------------------------------------------------------------------------ the law of cells


def test_moments_of_complete_columns_are_their_own():
    x = correlated(50)
    found = column_moments(x)
    assert found.mean == pytest.approx(x.mean(axis=0))
    assert found.covariance == pytest.approx(np.cov(x.T, bias=True), rel=1e-4)


def test_moments_of_a_monotone_pattern_are_those_of_the_factored_likelihood():
    """One column incomplete: its moments follow from its regression on the complete one (Anderson, 1957)."""
    x = correlated(60)[:, :2]
    x[40:, 1] = np.nan
    complete = x[:40]
    slope = np.cov(complete.T, bias=True)[0, 1] / complete[:, 0].var()
    left = complete[:, 1].var() - slope**2 * complete[:, 0].var()
    mean = complete[:, 1].mean() + slope * (x[:, 0].mean() - complete[:, 0].mean())
    found = column_moments(x)
    assert found.mean == pytest.approx([x[:, 0].mean(), mean], rel=1e-4)
    assert found.covariance[1, 1] == pytest.approx(left + slope**2 * x[:, 0].var(), rel=1e-3)
    assert found.covariance[0, 1] == pytest.approx(slope * x[:, 0].var(), rel=1e-3)


def test_cells_are_normal_given_the_rest_of_their_row():
    x = correlated(80)
    x[3, 1] = x[5, 0] = x[5, 2] = np.nan
    found, moments = missing_cells(x), column_moments(x)
    assert list(zip(found.rows, found.columns, strict=True)) == [(3, 1), (5, 0), (5, 2)]
    assert found.cell[5].tolist() == [2.0, 0.0, 3.0]
    own, rest = [0, 2], [1]
    inner = moments.covariance[np.ix_(rest, rest)]
    slope = moments.covariance[np.ix_(own, rest)] / inner
    assert found.loc[1:] == pytest.approx(moments.mean[own] + slope @ (x[5, rest] - moments.mean[rest]), rel=1e-4)
    left = moments.covariance[np.ix_(own, own)] - slope @ inner @ slope.T
    assert (found.scale @ found.scale.T)[1:, 1:] == pytest.approx(left, rel=1e-3)
    assert (found.scale[0, 1:] == 0.0).all()
    assert (found.scale[1:, 0] == 0.0).all()


# -------------------------------------------------------------------------- the regression


def test_log_joint_has_the_cells_in_their_places():
    """Cells at given values: the density of the table that has them, times their own."""
    generator = np.random.default_rng(1)
    x = correlated(12)
    y = generator.poisson(2.0, size=12).astype(np.float32)
    hidden = np.array(x)
    hidden[2, 0] = hidden[7, 2] = hidden[7, 1] = np.nan
    cells = missing_cells(hidden)
    task, plain = make_regression("poisson", 3, num_missing=3), make_regression("poisson", 3)
    unit = {name: value for name, value in plain.constants.items() if name.endswith("_shape")}
    rows = {"y": y, "offset": np.full(12, -1.0, np.float32)}
    dataset = task.prepare(
        icl_bayes.Dataset(x=np.nan_to_num(hidden), cell=cells.cell, constants=unit | cells.constants(), **rows)
    )
    theta = np.asarray([0.3, 0.05, -0.1, 0.2, 0.4, -0.6, 1.1], np.float32)
    sites = jax.jit(task.constrain)(jnp.asarray(theta), dataset)
    assert np.asarray(sites["missing"]) == pytest.approx(cells.loc + cells.scale @ theta[4:], rel=1e-4)
    filled = np.array(hidden)
    filled[cells.rows, cells.columns] = sites["missing"]
    full = plain.prepare(icl_bayes.Dataset(x=filled, constants=unit, **rows))
    own = scipy.stats.norm.logpdf(theta[4:]).sum()
    expected = float(jax.jit(plain.log_joint)(jnp.asarray(theta[:4]), full)) + own
    assert float(jax.jit(task.log_joint)(jnp.asarray(theta), dataset)) == pytest.approx(expected, abs=2e-3)


def test_posterior_by_quadrature():
    """A slope and one missing cell, over a grid of both; the response moves the cell away from its law."""
    generator = np.random.default_rng(4)
    x = generator.normal(size=14)
    frame = pd.DataFrame({"x": x, "y": generator.poisson(np.exp(0.8 * x))})
    frame.loc[3, "y"] = 9  # says that the cell is large
    frame.loc[3, "x"] = np.nan
    priors = {"x": "normal(0, 1)"}
    found = icl_bayes.glm("y ~ 0 + x", frame, "poisson", priors, missing="integrate", num_draws=4000)
    assert found.certificate.verdict in ("good", "resampled", "polished", "refined")
    seen = frame.dropna()
    slopes, cells = np.linspace(-2.0, 3.0, 401)[:, None, None], np.linspace(-6.0, 6.0, 601)[None, :, None]
    rates = slopes * seen["x"].to_numpy()
    height = (seen["y"].to_numpy() * rates - np.exp(rates)).sum(axis=-1) + 9.0 * slopes[..., 0] * cells[..., 0]
    height = height - np.exp(slopes[..., 0] * cells[..., 0]) - 0.5 * slopes[..., 0] ** 2
    height = height + scipy.stats.norm(seen["x"].mean(), seen["x"].std(ddof=0)).logpdf(cells[..., 0])
    weights = np.exp(height - height.max())
    for draws, grid, share in (
        (found.draws["x"], slopes.ravel(), weights.sum(axis=1)),
        (found.missing_cells["x[3]"], cells.ravel(), weights.sum(axis=0)),
    ):
        mean = (grid * share).sum() / share.sum()
        sd = np.sqrt(((grid - mean) ** 2 * share).sum() / share.sum())
        assert draws.mean() == pytest.approx(mean, abs=0.08 * sd)
        assert draws.std() == pytest.approx(sd, rel=0.08)
    linear = found.linear_predictor()
    assert linear[:, 3] == pytest.approx((found.draws["x"] * found.missing_cells["x[3]"]).to_numpy(), rel=1e-4)
    assert np.exp(linear) == pytest.approx(found.expected(), rel=1e-4)
    assert found.predict(jax.random.key(0), seen).shape == (4000, 13)
    with pytest.raises(ValueError, match="missing='drop'"):
        found.loo()


# ------------------------------------------------------------------------------ refusals


def broken(**cells: object) -> pd.DataFrame:
    generator = np.random.default_rng(0)
    frame = pd.DataFrame(generator.normal(size=(80, 3)), columns=["a", "b", "y"])
    frame["g"] = generator.choice(["u", "v"], size=80)
    for name, rows in cells.items():
        frame.loc[rows, name] = None
    return frame


@pytest.mark.parametrize(
    ("formula", "frame", "match"),
    [
        ("y ~ a + a:b", broken(a=[1]), "enters by a, a:b"),
        ("y ~ np.exp(a) + b", broken(a=[1]), "enters by np.exp"),
        ("y ~ a + g", broken(g=[1]), "not as a number"),
        ("y ~ a + b", broken(y=[1]), "what is no covariate"),
        ("y ~ a + b", broken(a=list(range(MAX_CELLS + 1))), f"up to {MAX_CELLS}"),
    ],
)
def test_what_cannot_be_integrated_is_refused(formula, frame, match):
    with pytest.raises(ValueError, match=match):
        icl_bayes.glm(formula, frame, missing="integrate")


def test_a_column_never_observed_twice_has_no_law():
    with pytest.raises(ValueError, match="fewer than two"):
        column_moments(np.asarray([[1.0, np.nan], [2.0, 3.0], [0.5, np.nan]]))


def test_rows_that_count_several_times_may_not_share_a_cell():
    frame = broken(a=[1])
    frame["count"] = 2
    with pytest.raises(ValueError, match="share their missing cells"):
        icl_bayes.glm("y ~ a + b", frame, missing="integrate", weights="count")
