"""Expected information against the mean outer product of scores over simulated responses."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from helpers import assert_mean_within_mcse

from icl_bayes.tasks.base import Task
from icl_bayes.types import Dataset

NUM_RESPONSES = 20_000
X = np.asarray([[1.0, -0.5], [0.3, 1.2], [-1.0, 0.4], [0.2, 0.1]], np.float32)
THETA = {1: [0.4, -0.3, 0.5], 6: [0.4, -0.3], 7: [0.4, -0.3, 0.5]}


def simulate_responses(scenario: int, linear: np.ndarray, sigma2: float) -> np.ndarray:
    """``(NUM_RESPONSES, n)``, by NumPy from the textbook definition of each response."""
    generator = np.random.default_rng(scenario)
    shape = (NUM_RESPONSES, len(linear))
    if scenario == 6:
        return (generator.random(shape) < 1.0 / (1.0 + np.exp(-linear))).astype(np.float32)
    if scenario == 7:
        mean = np.exp(linear)
        return np.log(generator.gamma(mean**2 / sigma2, sigma2 / mean, shape)).astype(np.float32)
    return (linear + np.sqrt(sigma2) * generator.normal(size=shape)).astype(np.float32)


@pytest.mark.parametrize("scenario", THETA)
def test_fisher_information_is_the_mean_outer_product_of_scores(scenario: int, glm) -> None:
    task: Task = glm(scenario)
    theta = np.asarray(THETA[scenario], np.float32)
    row = task.responses[0]
    constants = {name: np.float32(value) for name, value in task.constants.items()}
    # The last row is masked, hence contributes to neither side.
    template = Dataset(x=X, row_mask=np.asarray([True, True, True, False]), constants=constants, **{row: X[:, 0]})

    @jax.jit
    def both(responses):
        score = lambda y: jax.grad(task.log_likelihood)(theta, template.replace(rows={"x": X, row: y}))  # noqa: E731
        return task.fisher_information(theta, template), jax.vmap(score)(responses), task.constrain(theta, template)

    sites = jax.device_get(jax.jit(lambda: task.constrain(theta, template))())
    responses = simulate_responses(scenario, X @ sites["beta"], float(sites.get("sigma2", 1.0)))
    information, scores, _ = jax.device_get(both(responses))
    assert_mean_within_mcse(scores, np.zeros(task.dim), label="score")
    outer = scores[:, :, None].astype(np.float64) * scores[:, None, :]
    assert_mean_within_mcse(outer, information - np.eye(task.dim), label="information without the prior's identity")
    assert np.linalg.eigvalsh(information).min() >= 1.0 - 1e-5


def test_curvature_is_positive_where_the_hessian_is_not(glm) -> None:
    """A gamma regression curves upwards where responses exceed their mean by e; scoring still has a metric."""
    task: Task = glm(7)
    theta = np.asarray([0.0, 0.0, 0.0], np.float32)
    dataset = task.prepare(Dataset(x=X, log_y=np.ones(4, np.float32)))
    metric, hessian = jax.jit(lambda t: (task.curvature(t, dataset), jax.hessian(task.log_joint)(t, dataset)))(theta)
    assert np.linalg.eigvalsh(hessian).max() > 0.0
    assert np.linalg.eigvalsh(metric).min() >= 1.0 - 1e-5
