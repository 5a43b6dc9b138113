"""What a task checks about its program, and what it derives from it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro import handlers
from scipy import stats

from icl_bayes.tasks import Features, Task, make_task, task_names
from icl_bayes.tasks.glm import make_glm
from icl_bayes.types import Dataset

ROWS = np.asarray([0.3, -1.2, 0.8, 2.0], np.float32)


def toy(model: Callable[[Dataset], None], **changes) -> Task:
    """A task around a program that observes ``y``."""
    settings = dict(
        name="toy/one",
        model=model,
        inputs=lambda rng_key, row_mask: {},
        responses=("y",),
        target=("tau", "mu"),
        compared=("mu",),
        constants={},
        features=lambda dataset: Features(dataset["y"][:, None], jnp.zeros(1), dataset.row_mask),
        validate=lambda dataset: dataset,
        example=Dataset(y=ROWS),
        paper_num_rows=4,
    )
    return Task(**{**settings, **changes})


def hierarchical(dataset: Dataset) -> None:
    tau = numpyro.sample("tau", dist.Exponential(2.0))
    mu = numpyro.sample("mu", dist.Normal(1.0, tau))
    with numpyro.plate("rows", dataset.padded_rows), handlers.mask(mask=dataset.row_mask):
        numpyro.sample("y", dist.Normal(mu, 0.5), obs=dataset["y"])


def ignores_the_mask(dataset: Dataset) -> None:
    tau = numpyro.sample("tau", dist.Exponential(2.0))
    mu = numpyro.sample("mu", dist.Normal(1.0, tau))
    with numpyro.plate("rows", dataset.padded_rows):
        numpyro.sample("y", dist.Normal(mu, 0.5), obs=dataset["y"])


def reduces_over_raw_rows(dataset: Dataset) -> None:
    tau = numpyro.sample("tau", dist.Exponential(2.0))
    mu = numpyro.sample("mu", dist.Normal(jnp.mean(dataset["y"]), tau))
    with numpyro.plate("rows", dataset.padded_rows), handlers.mask(mask=dataset.row_mask):
        numpyro.sample("y", dist.Normal(mu, 0.5), obs=dataset["y"])


@pytest.mark.parametrize("program", [ignores_the_mask, reduces_over_raw_rows])
def test_a_program_that_padding_changes_is_refused(program) -> None:
    with pytest.raises(ValueError, match=r"log joint changes when masked rows.*numpyro\.handlers\.mask"):
        toy(program)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target": ("tau",)}, r"latent sites \['mu', 'tau'\] must be exactly the declared target \('tau',\)"),
        ({"target": ("tau", "mu"), "nuisance": ("mu",)}, "must be exactly the declared"),
        ({"target": ("tau", "mu", "nu")}, "must be exactly the declared"),
        ({"target": ("tau",), "nuisance": ("mu",)}, r"compared sites \('mu',\) must be target sites"),
    ],
)
def test_undeclared_sites_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        toy(hierarchical, **changes)


def test_a_prior_that_depends_on_its_parent_is_mapped_given_it() -> None:
    task = toy(hierarchical, overrides={"tau": "gaussianizing"})
    theta = np.asarray([0.4, -0.7], np.float32)
    sites = jax.device_get(jax.jit(task.constrain)(theta, task.example))
    tau = stats.expon(scale=0.5).ppf(stats.norm.cdf(0.4))
    assert sites["tau"] == pytest.approx(tau, rel=1e-5)
    assert sites["mu"] == pytest.approx(1.0 - 0.7 * tau, rel=1e-5)
    expected = stats.norm.logpdf(theta).sum() + stats.norm(sites["mu"], 0.5).logpdf(ROWS).sum()
    assert jax.jit(task.log_joint)(theta, task.example) == pytest.approx(expected, rel=1e-5)
    np.testing.assert_allclose(jax.jit(task.unconstrain)(sites, task.example), theta, atol=1e-5)


def test_an_override_changes_the_coordinate_and_keeps_the_law() -> None:
    plain = toy(hierarchical, overrides={"tau": "gaussianizing"})
    overridden = toy(hierarchical, overrides={"tau": "bijector"})
    assert toy(hierarchical).coordinate_names == {"tau": "ramp_exponential", "mu": "normal"}
    assert overridden.coordinate_names == {"tau": "bijector", "mu": "normal"}
    u = 1.4
    tau = stats.expon(scale=0.5).ppf(stats.norm.cdf(u))
    at_plain = jax.jit(plain.log_joint)(jnp.asarray([u, 0.2]), plain.example)
    at_overridden = overridden.log_joint(jnp.asarray([np.log(tau), 0.2]), plain.example)
    slope = stats.norm.pdf(u) / stats.expon(scale=0.5).pdf(tau)  # d tau / d u
    assert float(at_plain - at_overridden) == pytest.approx(np.log(slope / tau), abs=2e-5)


@pytest.mark.parametrize("scenario", range(1, 8))
def test_unconstrain_inverts_constrain(scenario: int, simulated) -> None:
    pairs = simulated(scenario)
    some = jax.tree.map(lambda leaf: leaf[:500], (pairs.theta, pairs.sites, pairs.dataset))
    theta, sites, dataset = some
    again = jax.jit(jax.vmap(pairs.task.unconstrain))(sites, dataset)
    np.testing.assert_allclose(again, theta, atol=2e-3)


def test_labels_and_matrices_agree(glm) -> None:
    task = glm(4)
    assert task.site_names() == ["intercept", "beta[0]", "beta[1]"]
    assert task.site_names("target") == ["intercept", "beta[0]", "beta[1]", "sigma2"]
    matrix = task.compared_matrix({"beta": np.asarray([[1, 2], [3, 4]]), "intercept": np.asarray([5, 6]), "sigma2": 0})
    np.testing.assert_array_equal(matrix, [[5, 1, 2], [6, 3, 4]])
    assert matrix.dtype == np.float64


def test_features_do_not_see_padded_rows_or_their_number(glm) -> None:
    task = glm(1)
    generator = np.random.default_rng(0)
    dataset = task.prepare(Dataset(x=generator.normal(size=(6, 2)), y=generator.normal(size=6)))
    plain, padded = task.features(dataset), task.features(dataset.pad_rows(9))
    np.testing.assert_array_equal(padded.context, plain.context)
    np.testing.assert_array_equal(padded.rows[:6], plain.rows)
    assert not padded.rows[6:].any()
    assert plain.context[-1] == pytest.approx(np.log(6 / 50))
    other = task.prepare(dataset.replace(constants={"beta_scale": 2.0}))
    assert not np.array_equal(task.features(other).context, plain.context), "Prior constants are inputs."


def test_gamma_data_sets_beyond_float32_are_not_simulated_for_training(glm) -> None:
    task = glm(7)
    x = np.zeros((3, 2), np.float32)
    keep = lambda values, mask: bool(task.is_accepted(Dataset(x=x, log_y=np.float32(values), row_mask=mask)))  # noqa: E731
    everything = np.ones(3, bool)
    assert keep([5.9, 0.0, -80.0], everything)
    assert not keep([6.1, 0.0, 0.0], everything)
    assert keep([6.1, 0.0, 0.0], np.asarray([False, True, True]))
    assert bool(glm(1).is_accepted(glm(1).example))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: make_task("glm/8"), r"Unknown task 'glm/8'; choices: glm/1, .*glm/7"),
        (lambda: make_task("gml/1"), "choices: glm/1"),
        (lambda: make_glm(0), r"Unknown GLM scenario 0; choices: \[1, 2, 3, 4, 5, 6, 7\]"),
        (lambda: make_task("glm/1", covariates="tabulr"), "'tabular'"),
        (lambda: make_task("glm/1", hyperprior="wide"), r"Unknown hyperprior 'wide'; choices: \['fixed', 'varied'\]"),
    ],
)
def test_unknown_names_list_the_choices(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
    assert task_names() == [
        *(f"glm/{scenario}" for scenario in range(1, 8)),
        *(f"fa/{scenario}" for scenario in range(1, 7)),
        *(f"efa/{scenario}" for scenario in range(1, 4)),
        *(f"gmm/{scenario}" for scenario in range(1, 6)),
    ]


def test_tasks_are_frozen(glm) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        glm(1).name = "glm/2"
