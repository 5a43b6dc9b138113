"""Preparing real tables for models without response: whose moments are matched, which columns, what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from icl_bayes.datasets import Table, load_bundled, prepare_features


def prepared(name: str = "concrete", **options):
    settings = {"num_rows": 25, "num_columns": 5, "mean": 0.5, "variance": 0.3, "rng_seed": 0}
    return prepare_features(load_bundled(name), **{**settings, **options})


def test_the_whole_table_has_the_moments_asked_for() -> None:
    table = load_bundled("concrete")
    dataset, _ = prepared(num_rows=table.num_rows)
    np.testing.assert_allclose(dataset["x"].mean(axis=0), 0.5, atol=1e-5)
    np.testing.assert_allclose(dataset["x"].var(axis=0), 0.3, rtol=1e-4)


def test_drawn_rows_keep_moments_of_their_own_unless_asked_otherwise() -> None:
    """Matched sample moments are the published protocol, under which all tables share one factor posterior."""
    ours, info = prepared()
    theirs, _ = prepared(scaling="rows")
    assert ours["x"].dtype == np.float32
    assert ours["x"].shape == (25, 5)
    assert len(set(info.rows)) == 25
    np.testing.assert_allclose(theirs["x"].mean(axis=0), 0.5, atol=1e-5)
    np.testing.assert_allclose(theirs["x"].var(axis=0), 0.3, rtol=1e-4)
    assert np.abs(ours["x"].mean(axis=0) - 0.5).max() > 0.02
    assert np.abs(ours["x"].var(axis=0) / 0.3 - 1.0).max() > 0.05


def test_the_response_is_a_column_like_any_other() -> None:
    table = load_bundled("yacht")
    _, info = prepared("yacht", num_columns=table.num_columns + 1)
    assert set(info.columns) == {*table.columns, table.response_name}
    with pytest.raises(ValueError, match=r"has 308 rows and 7 columns; the scenario needs 25 rows and 8"):
        prepared("yacht", num_columns=table.num_columns + 2)


def test_columns_with_most_distinct_values_are_kept_and_constant_ones_named() -> None:
    rng = np.random.default_rng(0)
    features = np.column_stack([np.ones(40), np.arange(40) % 2, rng.normal(size=40), np.arange(40) % 5])
    table = Table("made", ("one", "two", "many", "five"), features, rng.normal(size=40), "real", "y")
    _, info = prepare_features(table, num_rows=30, num_columns=3, mean=0.0, variance=1.0, rng_seed=1)
    assert info.columns == ("many", "y", "five")
    assert info.constant_columns == ("one",)
    with pytest.raises(ValueError, match="only 4 columns vary"):
        prepare_features(table, num_rows=30, num_columns=5, mean=0.0, variance=1.0, rng_seed=1)


def test_seeds_decide_the_rows() -> None:
    first, again, other = prepared(rng_seed=1), prepared(rng_seed=1), prepared(rng_seed=2)
    np.testing.assert_array_equal(first[0]["x"], again[0]["x"])
    assert first[1] == again[1] != other[1]


def test_unusable_settings_are_refused() -> None:
    with pytest.raises(ValueError, match=r"scaling must be one of \('table', 'rows'\); received 'columns'"):
        prepared(scaling="columns")
    for options in ({"variance": 0.0}, {"mean": np.nan}):
        with pytest.raises(ValueError, match="mean must be finite and variance finite and above zero"):
            prepared(**options)
