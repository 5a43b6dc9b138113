"""Preparing real tables for the GLM scenarios: invariants, controls that must fail, and messages."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from icl_bayes.datasets import Table, eligible_tables, gaussianise, load_bundled, prepare_glm, preprocessing

MOMENTS = {"response_mean": 0.4, "response_variance": 3.5}
GAMMA_MOMENTS = {"response_mean": 6.9, "response_variance": 317.0}  # medians over simulations of GLM 7


def prepared(table: Table | str, kind: str = "real", seed: int = 0, **options: Any):
    table = load_bundled(table) if isinstance(table, str) else table
    moments = GAMMA_MOMENTS if kind == "positive" else MOMENTS
    return prepare_glm(
        table, **{"num_rows": 50, "num_columns": 5, "response_kind": kind, "rng_seed": seed, **moments, **options}
    )


def made(num_rows: int = 80, kind: str = "real", **columns: np.ndarray) -> Table:
    """A small table with the given columns; the response depends on a hidden variable."""
    rng = np.random.default_rng(1)
    response = {
        "real": rng.normal(size=num_rows),
        "positive": rng.gamma(2.0, size=num_rows),
        "binary": (rng.random(num_rows) < 0.5).astype(float),
    }[kind]
    filled = columns or {f"x{i}": rng.normal(size=num_rows) for i in range(6)}
    return Table("made", tuple(filled), np.column_stack(list(filled.values())), response, kind)


def column_defect(x: np.ndarray) -> float:
    """How far a matrix is from standardised columns."""
    x = np.asarray(x, float)
    return float(max(np.abs(x.mean(axis=0)).max(), np.abs(x.std(axis=0) - 1.0).max()))


@pytest.mark.parametrize("kind", ["real", "binary", "positive"])
def test_every_eligible_table_fits_its_scenario(kind: str) -> None:
    mean, variance = (GAMMA_MOMENTS if kind == "positive" else MOMENTS).values()
    for name in eligible_tables(50, 5, kind, include_derived=kind == "binary"):
        for seed in (10_000, 10_001):
            dataset, info = prepared(name, kind, seed)
            x, y = np.asarray(dataset["x"], float), np.asarray(dataset["y"], float)
            assert x.shape == (50, 5)
            assert y.shape == (50,)
            assert dataset["x"].dtype == dataset["y"].dtype == np.float32
            assert column_defect(x) < 1e-5, name
            assert len(info.columns) == len(set(info.columns)) == 5
            assert len(set(info.rows)) == 50
            assert info.licence == load_bundled(name).licence
            if kind == "binary":
                assert set(np.unique(y)) == {0.0, 1.0}
                assert info.exponent is None
            else:
                assert y.mean() == pytest.approx(mean, abs=1e-5)
                assert y.var() == pytest.approx(variance, rel=1e-5)
                assert info.exponent is not None
                assert kind == "real" or y.min() > 0.0


def test_row_scaling_would_fail_the_check() -> None:
    """Negative control: scaling each row across its features, as the published code did, is caught."""
    table = load_bundled("concrete")
    dataset, info = prepared(table)
    places = [table.columns.index(column) for column in info.columns]
    raw = table.features[list(info.rows)][:, places]
    low, high = raw.min(axis=1, keepdims=True), raw.max(axis=1, keepdims=True)
    row_scaled = (raw - low) / (high - low)
    row_standardised = (raw - raw.mean(axis=1, keepdims=True)) / raw.std(axis=1, keepdims=True)
    assert column_defect(dataset["x"]) < 1e-5
    assert column_defect(row_scaled) > 0.3
    assert column_defect(row_standardised) > 0.3


def test_columns_are_affine_in_the_original_ones() -> None:
    table = load_bundled("concrete")
    dataset, info = prepared(table)
    for place, column in enumerate(info.columns):
        raw = table.features[list(info.rows), table.columns.index(column)]
        np.testing.assert_allclose((raw - raw.mean()) / raw.std(), dataset["x"][:, place], atol=1e-5)


def test_response_is_an_increasing_function_of_the_original() -> None:
    for name, kind in (("concrete", "real"), ("concrete", "positive"), ("wine_red", "positive")):
        table = load_bundled(name)
        dataset, info = prepared(table, kind, response_mean=2.0, response_variance=3.0)
        raw = table.response[list(info.rows)]
        order = np.argsort(raw, kind="stable")
        assert (np.diff(dataset["y"][order]) >= 0).all()
        assert np.corrcoef(raw, dataset["y"])[0, 1] > 0.3


def test_columns_with_most_distinct_values_are_kept_ties_in_order() -> None:
    rng = np.random.default_rng(0)
    n = 60
    table = made(
        n,
        two=rng.integers(0, 2, n),
        many=rng.normal(size=n),
        six=rng.permutation(np.arange(n) % 6),
        four=rng.permutation(np.arange(n) % 4),
        more=rng.normal(size=n),
        also_six=rng.permutation(np.arange(n) % 6),
    )
    _, info = prepared(table, num_rows=n, num_columns=4)
    assert info.columns == ("many", "more", "six", "also_six")


def test_constant_columns_make_room_for_others() -> None:
    rng = np.random.default_rng(0)
    n = 60
    nearly = np.zeros(n)
    nearly[0] = 1.0  # varies in the table, hardly ever among ten rows
    big = np.full(n, 1e9)
    columns = {"big": big, "nearly": nearly, "a": rng.normal(size=n), "b": rng.normal(size=n), "c": rng.normal(size=n)}
    table = made(n, **columns)
    seed = next(seed for seed in range(50) if 0 not in prepared(table, seed=seed, num_rows=10, num_columns=3)[1].rows)
    _, info = prepared(table, seed=seed, num_rows=10, num_columns=3)
    assert info.columns == ("a", "b", "c")
    assert info.constant_columns == ("big", "nearly")
    with pytest.raises(ValueError, match=r"only 3 columns vary.*needs 4; constant: \['big', 'nearly'\]"):
        prepared(table, seed=seed, num_rows=10, num_columns=4)


def test_same_seed_same_data_and_seeds_differ() -> None:
    for kind in ("real", "binary", "positive"):
        table = load_bundled(eligible_tables(200, 5, kind)[0])
        first, info = prepared(table, kind, 7)
        second, again = prepared(table, kind, 7)
        assert info == again
        np.testing.assert_array_equal(first["x"], second["x"])
        np.testing.assert_array_equal(first["y"], second["y"])
        assert prepared(table, kind, 8)[1].rows != info.rows


def test_binary_response_is_taken_as_it_is() -> None:
    table = load_bundled("breast_cancer")
    dataset, info = prepared(table, "binary")
    np.testing.assert_array_equal(dataset["y"], table.response[list(info.rows)])
    assert not info.derived
    assert info.derivation == "binary response"
    _, merged = prepared("heart_disease", "binary")
    assert merged.derived, "classes merged when the table was built count as derived"
    assert "merged" in merged.derivation


def test_binary_needs_no_moments() -> None:
    _, info = prepared("breast_cancer", "binary", response_mean=None, response_variance=None)
    assert info.exponent is None


def test_median_split_is_of_the_whole_table_and_flagged() -> None:
    table = load_bundled("concrete")
    dataset, info = prepared(table, "binary", 3)
    raw = table.response[list(info.rows)]
    np.testing.assert_array_equal(dataset["y"], raw > np.median(table.response))
    assert info.derived
    assert "median" in info.derivation
    balances = {float(prepared(table, "binary", seed)[0]["y"].sum()) for seed in range(8)}
    assert len(balances) > 1, "the balance of the drawn rows must vary"


def test_median_split_with_many_ties_is_as_even_as_can_be() -> None:
    table = made()
    response = np.array([0.0] * 50 + [1.0] * 10 + [2.0] * 20)  # the median is the smallest value
    tied = Table("tied", table.columns, table.features, response, "real")
    dataset, info = prepared(tied, "binary")
    np.testing.assert_array_equal(dataset["y"], response[list(info.rows)] > 0.0)


def test_rows_are_drawn_again_until_both_classes_occur(monkeypatch: pytest.MonkeyPatch) -> None:
    table = made(200)
    labels = np.zeros(200)
    labels[:6] = 1.0
    rare = Table("rare", table.columns, table.features, labels, "binary")
    redraws = []
    for seed in range(30):
        dataset, info = prepared(rare, "binary", seed, num_rows=10)
        assert 0.0 < np.mean(dataset["y"]) < 1.0
        redraws.append(info.redraws)
    # One class only has probability 0.73, hence 2.7 redraws on average; sd of the mean is 0.6.
    assert 0.5 < np.mean(redraws) < 6.0
    monkeypatch.setattr(preprocessing, "_MAX_REDRAWS", 1)
    unlucky = redraws.index(max(redraws))
    with pytest.raises(ValueError, match="1 draws of 10 rows held one class of 'y' only"):
        prepared(rare, "binary", unlucky, num_rows=10)


def test_positive_response_is_an_exponential_of_the_scores_of_its_logarithm() -> None:
    table = load_bundled("diamonds")
    for mean, variance in ((6.9, 317.0), (0.5, 1e-4), (1e4, 1e7)):
        dataset, info = prepared(table, "positive", response_mean=mean, response_variance=variance)
        y = np.asarray(dataset["y"], float)
        assert (y > 0).all()
        assert y.mean() == pytest.approx(mean, rel=1e-5)
        assert y.var() == pytest.approx(variance, rel=1e-3 if variance < 1e-3 else 1e-5)  # float32 around the mean
        scores, exponent = gaussianise(np.log(table.response[list(info.rows)]))
        assert info.exponent == exponent
        slope, start = np.polyfit(scores, np.log(y), 1)
        assert slope > 0
        np.testing.assert_allclose(np.log(y), start + slope * scores, atol=1e-5)
    assert not info.derived
    assert info.derivation.startswith("log response")


def test_real_response_becomes_a_derived_positive_one() -> None:
    dataset, info = prepared("airfoil", "positive")
    assert info.derived
    assert "in place of a log response" in info.derivation
    assert (dataset["y"] > 0).all()


@pytest.mark.parametrize(
    ("table", "options", "match"),
    [
        ("breast_cancer", {"response_kind": "real"}, "binary response, from which no real one is derived"),
        ("breast_cancer", {"response_kind": "positive"}, "from which no positive one is derived"),
        ("concrete", {"response_kind": "count"}, "response_kind must be one of"),
        ("slump", {"num_rows": 200}, "has 103 rows and 7 columns; the scenario needs 200 rows and 5 columns"),
        ("slump", {"num_columns": 8}, "needs 50 rows and 8 columns"),
        ("slump", {"num_rows": 1}, "num_rows must be at least 2"),
        ("slump", {"response_mean": None}, "give response_mean and response_variance, simulated"),
        ("slump", {"response_kind": "positive", "response_variance": None}, "A positive response is scaled"),
        ("slump", {"response_kind": "positive", "response_mean": -1.0}, r"\(that of y, not of log y\); received -1.0"),
        ("slump", {"response_variance": 0.0}, "response_variance finite and above zero; received 0.4 and 0.0"),
        ("slump", {"response_variance": np.inf}, "response_variance finite and above zero"),
        ("slump", {"response_mean": np.nan}, "must be finite"),
        (
            "slump",
            {"response_kind": "positive", "response_mean": 56.8, "response_variance": 1.6e7},
            "standard deviation of 70.42 times their mean; the limit is 7. Take medians",
        ),
    ],
)
def test_misuse_is_explained(table: str, options: dict, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        prepared(table, **options)


def test_constant_response_is_refused() -> None:
    table = made()
    flat = np.zeros(80)
    flat[0] = 1.0
    seldom = Table("seldom", table.columns, table.features, flat, "real")
    seed = next(s for s in range(50) if 0 not in prepared(table, seed=s, num_rows=10)[1].rows)
    with pytest.raises(ValueError, match=r"response 'y' is constant \(0\) within the 10 drawn rows"):
        prepared(seldom, seed=seed, num_rows=10)
    with pytest.raises(ValueError, match="is constant and cannot be split"):
        prepared(Table("flat", table.columns, table.features, np.ones(80), "real"), "binary")
