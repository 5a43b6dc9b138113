"""Data that cannot be conditioned on are refused in words; usable data are completed."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from icl_bayes.types import Dataset

X = np.random.default_rng(0).normal(size=(9, 2))
Y = np.linspace(0.5, 2.0, 9)
BINARY = np.asarray([0, 1] * 4 + [1])


def with_value(array: np.ndarray, value: float, at: tuple[int, ...]) -> np.ndarray:
    copy = array.astype(float)
    copy[at] = value
    return copy


MASK_OUT = np.zeros(9, bool)
TEXT = np.asarray([["a", "b"]] * 9)

BAD = {
    "missing x": (1, dict(y=Y), r"needs rows 'x' \(n, 2\) and 'y' \(n,\); missing \['x'\]"),
    "missing y": (1, dict(x=X), r"missing \['y'\]"),
    "NaN in x": (
        1,
        dict(x=with_value(X, np.nan, (2, 1)), y=Y),
        r"x has 1 missing or infinite.*\[\[2, 1\]\]",
    ),
    "NaN in y": (1, dict(x=X, y=with_value(Y, np.nan, (3,))), r"y has 1 missing.*\[\[3\]\]"),
    "infinite y": (1, dict(x=X, y=with_value(Y, np.inf, (0,))), "y has 1 missing or infinite"),
    "beyond float32": (1, dict(x=with_value(X, 1e300, (4, 0)), y=Y), r"x has 1 value\(s\) beyond .*\[\[4, 0\]\]"),
    "no rows": (1, dict(x=X[:0], y=Y[:0]), "no rows"),
    "all rows masked": (1, dict(x=X, y=Y, row_mask=MASK_OUT), "no rows"),
    "one column too many": (1, dict(x=np.column_stack([X, Y]), y=Y), r"shape \(n, 2\).*received \(9, 3\)"),
    "x is a vector": (1, dict(x=Y, y=Y), r"shape \(n, 2\).*received \(9,\)"),
    "y is a column": (1, dict(x=X, y=Y[:, None]), r"shape \(n,\); received \(9, 1\).*ravel"),
    "text in x": (1, dict(x=TEXT, y=Y), "x must be numeric; received dtype <U1. Encode text columns"),
    "objects in x": (1, dict(x=X.astype(object), y=Y), "x must be numeric; received dtype object"),
    "text in y": (6, dict(x=X, y=np.asarray(["no", "yes", "no"] * 3)), "y must be numeric"),
    "dates in y": (1, dict(x=X, y=np.asarray(["2020-01-01"] * 9, "datetime64[D]")), "y must be numeric"),
    "counts for bernoulli": (6, dict(x=X, y=np.arange(9)), r"values 0 and 1; received \[0.0, 1.0, 2.0"),
    "signs for bernoulli": (6, dict(x=X, y=2 * BINARY - 1), r"values 0 and 1; received \[-1.0, 1.0\]"),
    "zero for gamma": (7, dict(x=X, y=with_value(Y, 0.0, (1,))), "gamma response is positive; received a minimum of 0"),
    "negative for gamma": (7, dict(x=X, y=-Y), "gamma response is positive; received a minimum of -2"),
    "NaN in log y": (7, dict(x=X, log_y=with_value(Y, np.nan, (1,))), "log_y has 1 missing"),
    "unknown constant": (6, dict(x=X, y=BINARY, constants={"noise_rate": 1.0}), r"no constant\(s\) \['noise_rate'\]"),
    "misspelt constant": (1, dict(x=X, y=Y, constants={"beta_sd": 1.0}), r"knows \['beta_scale', 'noise_conc"),
    "constant of zero": (1, dict(x=X, y=Y, constants={"beta_scale": 0.0}), "'beta_scale' must be positive and finite"),
    "constant of NaN": (1, dict(x=X, y=Y, constants={"noise_rate": np.nan}), "'noise_rate' must be positive"),
}


@pytest.mark.parametrize("case", BAD)
def test_unusable_data_are_refused(case: str, glm) -> None:
    scenario, parts, message = BAD[case]
    dataset = Dataset(**parts)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the error is the message; no warning from a cast before it
        with pytest.raises(ValueError, match=message):
            glm(scenario).prepare(dataset)


@pytest.mark.parametrize("column", [np.ones(9), np.zeros(9)])
def test_a_constant_column_warns(column: np.ndarray, glm) -> None:
    x = np.column_stack([X[:, 0], column])
    with pytest.warns(UserWarning, match=r"Column\(s\) \[1\] of x are constant.*confounded"):
        prepared = glm(1).prepare(Dataset(x=x, y=Y))
    assert prepared["x"].shape == (9, 2)


def test_a_column_constant_only_over_existing_rows_warns(glm) -> None:
    x = X.copy()
    x[:5, 0] = 1.0
    with pytest.warns(UserWarning, match=r"\[0\]"):
        glm(1).prepare(Dataset(x=x, y=Y, row_mask=np.arange(9) < 5))


def test_good_data_become_float32_with_all_constants(glm) -> None:
    dataset = Dataset(x=X.astype(np.float64), y=Y, constants={"noise_rate": 3})
    prepared = glm(1).prepare(dataset)
    assert prepared["x"].dtype == prepared["y"].dtype == np.float32
    assert {name: float(value) for name, value in prepared.constants.items()} == {
        "beta_scale": 1.0,
        "noise_concentration": 5.0,
        "noise_rate": 3.0,
    }
    assert dataset.constants == {"noise_rate": 3}, "The user's own data set is left alone."
    again = glm(1).prepare(prepared)
    np.testing.assert_array_equal(again["y"], prepared["y"])


@pytest.mark.parametrize("y", [BINARY, BINARY.astype(bool), BINARY.astype(np.int8), BINARY.astype(float)])
def test_binary_responses_of_any_numeric_type_are_taken(y: np.ndarray, glm) -> None:
    np.testing.assert_array_equal(glm(6).prepare(Dataset(x=X, y=y))["y"], BINARY.astype(np.float32))


def test_gamma_responses_are_stored_as_logarithms(glm) -> None:
    y = with_value(Y, 1e-30, (0,))
    prepared = glm(7).prepare(Dataset(x=X, y=y))
    np.testing.assert_allclose(prepared["log_y"], np.log(y), rtol=1e-6)
    assert set(prepared.rows) == {"x", "log_y"}
    np.testing.assert_array_equal(glm(7).prepare(prepared)["log_y"], prepared["log_y"])


def test_tables_and_lists_are_taken(glm) -> None:
    import pandas as pd

    frame = pd.DataFrame({"a": X[:, 0], "b": np.arange(9)})
    prepared = glm(1).prepare(Dataset(x=frame, y=pd.Series(Y)))
    np.testing.assert_allclose(prepared["x"], frame.to_numpy(), rtol=1e-6)
    np.testing.assert_allclose(glm(1).prepare(Dataset(x=X.tolist(), y=list(Y)))["y"], Y, rtol=1e-6)
    frame["c"] = ["u", "v", "w"] * 3
    with pytest.raises(ValueError, match="must be numeric"):
        glm(1).prepare(Dataset(x=frame[["a", "c"]], y=Y))
