"""Factor analysis: simulation, log joint and features of the six scenarios, and what is refused."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import joint_draw

from icl_bayes.tasks import Task, make_task
from icl_bayes.tasks.fa import SCENARIOS
from icl_bayes.types import Dataset


@functools.cache
def fa(scenario: int) -> Task:
    return make_task(f"fa/{scenario}")


@pytest.mark.parametrize("scenario", sorted(SCENARIOS))
def test_theta_of_a_simulation_is_where_the_log_joint_is_high(scenario: int) -> None:
    """The expected score at the generating theta is zero; a shifted theta is noticed."""
    task, num = fa(scenario), 256

    def score(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        theta, dataset = task.simulate(key, task.paper_num_rows)
        gradient = jax.grad(lambda shift: task.log_joint(theta + shift, dataset))
        return gradient(jnp.zeros(task.dim)), gradient(jnp.full(task.dim, 0.3))

    at_truth, beside = jax.jit(lambda keys: jax.lax.map(score, keys, batch_size=32))(
        jax.random.split(jax.random.key(scenario), num)
    )
    z = np.mean(at_truth, axis=0) / (np.std(at_truth, axis=0) / num**0.5)
    assert np.abs(z).max() < 4.0
    assert np.mean(beside, axis=0).max() < 0.0, "Beside the truth the log joint falls on average."


def test_dimensions_are_those_of_the_paper() -> None:
    shapes = {s: (one.structure.num_factors, one.structure.num_features) for s, one in SCENARIOS.items()}
    assert (fa(3).dim, fa(3).num_columns) == shapes[3]
    assert shapes == {1: (3, 3), 2: (3, 3), 3: (3, 5), 4: (5, 15), 5: (3, 5), 6: (3, 5)}
    assert [SCENARIOS[s].num_rows for s in SCENARIOS] == [50, 50, 25, 25, 25, 25]


def test_features_ignore_padding_and_keep_signs() -> None:
    task = fa(3)
    _, dataset = joint_draw(task, jax.random.key(0), 20, 32)
    rows, context, row_mask = task.features(dataset)
    assert rows.shape == (32, 10)
    assert not np.any(rows[20:])
    assert row_mask.sum() == 20
    np.testing.assert_allclose(context[:4], 0.0, atol=1e-6)  # prior constants relative to the paper's
    assert context[-1] == pytest.approx(np.log(20 / 25))
    x = dataset["x"][:20]
    np.testing.assert_allclose(np.sinh(context[4:9]), x.mean(axis=0), rtol=1e-4, atol=1e-5)
    scatter = 20 * x.var(axis=0)
    np.testing.assert_allclose(np.exp(context[9:14]), (2.0 + 0.5 * scatter) / (5.0 + 9.5), rtol=1e-4)
    np.testing.assert_array_equal(np.sign(rows[:20, :5]), np.sign(dataset["x"][:20]))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"y": np.zeros(4)}, r"needs rows 'x' \(n, 5\); received \['y'\]"),
        ({"x": np.zeros((4, 3))}, r"x must have shape \(n, 5\), one column per feature; received \(4, 3\)"),
        ({"x": np.full((4, 5), np.nan)}, "missing or infinite"),
        ({"x": np.zeros((0, 5))}, "no rows"),
    ],
)
def test_bad_data_are_refused(rows: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fa(3).prepare(Dataset(**rows))


def test_unknown_scenarios_and_options_are_refused() -> None:
    with pytest.raises(ValueError, match="Unknown task 'fa/7'; choices: glm/1, .*fa/6"):
        make_task("fa/7")
    with pytest.raises(ValueError, match=r"Unknown option\(s\) covariate of tasks; choices: .*covariates"):
        make_task("glm/1", covariate="uniform")
