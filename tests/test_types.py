"""Data sets: construction errors, padding, and passage through JAX transformations."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from icl_bayes.types import Dataset, SampleResult

X, Y = np.arange(6.0).reshape(3, 2), np.asarray([1.0, 2.0, 3.0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Dataset(), r"at least one row array, e\.g\. Dataset\(x=X, y=y\)"),
        (lambda: Dataset(x=X, y=Y[:2]), r"share their leading axis; received shapes \{'x': \(3, 2\), 'y': \(2,\)\}"),
        (lambda: Dataset(x=X, y=1.0), r"share their leading axis.*'y': \(\)"),
        (lambda: Dataset(y=5.0), "share their leading axis"),
        (lambda: Dataset(x=X, row_mask=np.ones(2, bool)), r"row_mask must have shape \(3,\); received \(2,\)"),
        (lambda: Dataset(x=X).pad_rows(2), "Cannot pad 3 rows down to 2"),
    ],
)
def test_misuse_says_what_was_received(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_rows_are_read_by_name() -> None:
    dataset = Dataset(x=X, y=Y, constants={"scale": 2.0})
    assert "x" in dataset
    assert "z" not in dataset
    np.testing.assert_array_equal(dataset["y"], Y)
    assert dataset.num_rows == dataset.padded_rows == 3
    assert repr(dataset) == "Dataset(x=(3, 2), y=(3,), constants=['scale'])"


def test_padding_repeats_a_valid_row_and_masks_it() -> None:
    padded = Dataset(x=X, y=Y, row_mask=np.asarray([True, True, False])).pad_rows(5)
    np.testing.assert_array_equal(padded["y"], [1, 2, 3, 1, 1])
    np.testing.assert_array_equal(padded["x"][3:], X[[0, 0]])
    np.testing.assert_array_equal(padded.row_mask, [True, True, False, False, False])
    assert padded.num_rows == 2
    assert padded.pad_rows(5) is padded


def test_replace_copies() -> None:
    dataset = Dataset(x=X, y=Y, constants={"scale": 2.0})
    other = dataset.replace(rows={"x": X + 1.0, "y": Y})
    assert other.constants == {"scale": 2.0}
    other.constants["scale"] = 3.0
    assert dataset.constants == {"scale": 2.0}
    np.testing.assert_array_equal(dataset["x"], X)


def test_a_data_set_is_a_pytree_with_named_leaves() -> None:
    dataset = Dataset(x=X, y=Y, constants={"scale": np.asarray(2.0)})
    names = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(dataset)]
    assert names == [".rows['x']", ".rows['y']", ".row_mask", ".constants['scale']"]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), dataset, dataset.replace(rows={"x": X, "y": 2 * Y}))
    sums = jax.vmap(lambda one: one["y"].sum() * one.constants["scale"])(stacked)
    np.testing.assert_array_equal(sums, [12.0, 24.0])
    assert isinstance(jax.jit(lambda one: one)(dataset), Dataset)


def test_results_of_different_calls_share_no_health() -> None:
    one, other = SampleResult({}, 0.0, 0.0), SampleResult({}, 0.0, 0.0)
    one.health["r_hat"] = 1.0
    assert other.health == {}
    assert one.status == "ok"
