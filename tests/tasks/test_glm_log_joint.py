"""Log joints of all scenarios against SciPy in float64, which shares neither program nor coordinates with ours."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from scipy import stats
from scipy.special import expit, softplus

from icl_bayes.tasks import Task
from icl_bayes.types import Dataset

SCENARIOS = range(1, 8)
# As in Table 5 of the paper: prior of the coefficients, intercept, response.
TABLE = {
    1: ("normal", False, "gaussian"),
    2: ("normal", True, "gaussian"),
    3: ("laplace", False, "gaussian"),
    4: ("laplace", True, "gaussian"),
    5: ("exponential", False, "gaussian"),
    6: ("normal", False, "bernoulli"),
    7: ("normal", False, "gamma"),
}
PAPER = {"beta_scale": 1.0, "intercept_scale": 3.0, "noise_concentration": 5.0, "noise_rate": 2.0}
OTHER = {"beta_scale": 1.7, "intercept_scale": 2.0, "noise_concentration": 3.5, "noise_rate": 1.2}


def cube_root_inverse_gamma(u: float, concentration: float, rate: float) -> float:
    """The smoothed Wilson-Hilferty map of this package, written out for doubles."""
    w = 1.0 - 1.0 / (9.0 * concentration) - u / (3.0 * np.sqrt(concentration))
    return rate / (concentration * (softplus(8.0 * w) / 8.0) ** 3)


SHARPNESS = 8.0


def coefficients(prior: str, u: np.ndarray) -> tuple[np.ndarray, float]:
    """Coefficients at unit scale for coordinates ``u``, and their prior log density in ``u``, by hand."""
    if prior == "normal":
        return u, stats.norm.logpdf(u).sum()
    if prior == "laplace":  # scaled to unit prior standard deviation
        beta = np.sqrt(2.0) * u
        return beta, (stats.laplace.logpdf(beta) + 0.5 * np.log(2.0)).sum()
    w = SHARPNESS * u
    beta = (w * stats.norm.cdf(w) + stats.norm.pdf(w)) / SHARPNESS
    return beta, (stats.expon.logpdf(beta) + stats.norm.logcdf(w)).sum()


COORDINATES = {"normal": "normal", "laplace": "scaled_laplace", "exponential": "ramp_exponential"}


class Reference:
    """One scenario by SciPy, at constants ``c``; ``theta`` in the order intercept, coefficients, noise."""

    def __init__(self, scenario: int, c: dict[str, float]) -> None:
        self.prior, self.has_intercept, self.response = TABLE[scenario]
        self.c = c

    def split(self, theta: np.ndarray) -> tuple[float, np.ndarray, float | None]:
        first = int(self.has_intercept)
        noise = None if self.response == "bernoulli" else theta[-1]
        return theta[0] if first else 0.0, theta[first : first + 2], noise

    def sites(self, theta: np.ndarray) -> dict[str, np.ndarray]:
        intercept, beta, noise = self.split(theta)
        sites = {"beta": self.c["beta_scale"] * coefficients(self.prior, beta)[0]}
        if self.has_intercept:
            sites["intercept"] = self.c["intercept_scale"] * intercept
        if noise is not None:
            sites["sigma2"] = cube_root_inverse_gamma(noise, self.c["noise_concentration"], self.c["noise_rate"])
        return sites

    def log_joint(self, theta: np.ndarray, x: np.ndarray, y: np.ndarray) -> float:
        theta, x, y = (np.asarray(value, np.float64) for value in (theta, x, y))
        intercept, beta, noise = self.split(theta)
        sites = self.sites(theta)
        total = coefficients(self.prior, beta)[1] + (stats.norm.logpdf(intercept) if self.has_intercept else 0.0)
        if noise is not None:
            law = stats.invgamma(self.c["noise_concentration"], scale=self.c["noise_rate"])
            step = 1e-5
            ends = [cube_root_inverse_gamma(noise + d, law.args[0], law.kwds["scale"]) for d in (-step, step)]
            total += law.logpdf(sites["sigma2"]) + np.log((ends[1] - ends[0]) / (2 * step))
        linear = x @ sites["beta"] + sites.get("intercept", 0.0)
        if self.response == "gaussian":
            return total + stats.norm.logpdf(y, linear, np.sqrt(sites["sigma2"])).sum()
        if self.response == "bernoulli":
            return total + stats.bernoulli.logpmf(y.astype(int), expit(linear)).sum()
        mean = np.exp(linear)  # y holds logarithms: the density of log y is y times that of y
        law = stats.gamma(mean**2 / sites["sigma2"], scale=sites["sigma2"] / mean)
        return total + (law.logpdf(np.exp(y)) + y).sum()


def small_data(task: Task) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(11)
    x = generator.normal(size=(7, 2)).astype(np.float32)
    y = generator.normal(0.3, 0.8, size=7).astype(np.float32)
    return x, (y > 0).astype(np.float32) if task.name == "glm/6" else y


@pytest.fixture(scope="module")
def batched():
    """``task -> (thetas, dataset) -> (log joints, sites)``, compiled once per task."""
    programs = {}

    def get(task: Task):
        if task.name not in programs:
            both = lambda theta, dataset: (task.log_joint(theta, dataset), task.constrain(theta, dataset))  # noqa: E731
            programs[task.name] = jax.jit(jax.vmap(both, in_axes=(0, None)))
        return programs[task.name]

    return get


@pytest.mark.parametrize("constants", [PAPER, OTHER], ids=["paper's constants", "other constants"])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_log_joint_agrees_with_scipy(scenario: int, constants: dict[str, float], glm, batched) -> None:
    task = glm(scenario)
    reference = Reference(scenario, constants)
    x, y = small_data(task)
    known = {name: value for name, value in constants.items() if name in task.constants}
    dataset = task.prepare(Dataset(x=x, constants=known, **{task.responses[0]: y}))
    thetas = np.random.default_rng(scenario).normal(size=(6, task.dim)).astype(np.float32)
    thetas[-1] *= 3.0  # far out
    ours, sites = jax.device_get(batched(task)(thetas, dataset))
    expected = [reference.log_joint(theta, x, y) for theta in thetas]
    np.testing.assert_allclose(ours, expected, rtol=2e-5, atol=1e-4)
    for name, value in reference.sites(thetas[0].astype(np.float64)).items():
        np.testing.assert_allclose(sites[name][0], value, rtol=1e-4, err_msg=name)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_defaults_are_the_papers_constants(scenario: int, glm) -> None:
    task = glm(scenario)
    assert dict(task.constants) == {name: PAPER[name] for name in task.constants}
    prior, has_intercept, response = TABLE[scenario]
    expected = ("intercept",) * has_intercept + ("beta",)
    assert task.compared == expected
    assert task.target == expected + ("sigma2",) * (response != "bernoulli")
    assert task.paper_num_rows == 50
    assert task.coordinate_names["beta"] == COORDINATES[prior]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_padded_rows_change_nothing(scenario: int, glm, batched) -> None:
    """Whatever finite values they carry."""
    task = glm(scenario)
    x, y = small_data(task)
    mask = np.asarray([True, False, True, True, False, True, False])
    row = task.responses[0]
    constants = {name: np.float32(value) for name, value in task.constants.items()}
    thetas = np.random.default_rng(0).normal(size=(6, task.dim)).astype(np.float32)
    results = []
    for fill in (0.0, 1.0, 100.0):
        filled_x = np.where(mask[:, None], x, np.float32(fill))
        filled_y = np.where(mask, y, np.float32(min(fill, 1.0)))
        dataset = Dataset(x=filled_x, row_mask=mask, constants=constants, **{row: filled_y})
        results.append(np.asarray(batched(task)(thetas, dataset)[0]))
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])
    reference = Reference(scenario, PAPER)
    expected = [reference.log_joint(theta, x[mask], y[mask]) for theta in thetas]
    np.testing.assert_allclose(results[0], expected, rtol=2e-5, atol=1e-4)
