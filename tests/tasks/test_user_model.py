"""Tasks from NumPyro models as users write them: what is derived from them, and what is refused, in words."""

from __future__ import annotations

import importlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
import scipy.stats
from helpers import joint_draw
from numpyro.infer.util import log_density

from icl_bayes.tasks import Task, load_program, make_task
from icl_bayes.types import Dataset


def regression(x, y=None):
    slope = numpyro.sample("slope", dist.Normal(0.0, 2.0))
    noise = numpyro.sample("noise", dist.HalfNormal(1.0))
    with numpyro.plate("rows", len(x)):
        numpyro.sample("obs", dist.Normal(slope * x, noise), obs=y)


def normal_x(rng_key, num_rows):
    return {"x": jax.random.normal(rng_key, (num_rows,))}


def test_log_joint_is_that_of_the_model_as_written():
    task = Task.from_numpyro(regression, normal_x, num_rows=(5, 30))
    dataset = task.prepare(Dataset(x=[0.5, -1.0, 2.0], y=[0.1, 0.2, 1.5]))
    theta = jnp.asarray([0.3, -0.4])
    sites = jax.jit(task.constrain)(theta, dataset)
    expected, _ = log_density(
        regression,
        (),
        {"x": jnp.asarray(dataset["x"]), "y": jnp.asarray(dataset["y"])},
        {name: jnp.asarray(value) for name, value in sites.items()},
    )
    found = jax.jit(task.log_joint)(theta, dataset) - jax.jit(task.log_volume)(theta, dataset)
    assert float(found) == pytest.approx(float(expected), abs=1e-4)


def test_the_response_is_found_at_whatever_site_it_is_observed():
    task = Task.from_numpyro(regression, normal_x, num_rows=(5, 30))
    assert task.responses == ("y",)
    assert task.target == ("slope", "noise")
    assert task.name == "custom/regression"
    assert set(task.example.rows) == {"x", "y"}


def test_simulations_follow_the_model():
    """Slope and residuals of simulated data sets, against the laws they were drawn from."""
    task = Task.from_numpyro(regression, normal_x, num_rows=200)
    thetas, datasets = jax.jit(jax.vmap(lambda key: task.simulate(key, 200)))(jax.random.split(jax.random.key(0), 400))
    slopes = np.asarray(thetas[:, 0]) * 2.0
    x, y = np.asarray(datasets["x"]), np.asarray(datasets["y"])
    fitted = np.sum(x * y, axis=1) / np.sum(x * x, axis=1)
    noise = np.asarray(jax.jit(jax.vmap(task.constrain))(thetas, datasets)["noise"])
    z = (fitted - slopes) * np.sqrt(np.sum(x * x, axis=1)) / noise
    assert scipy.stats.kstest(z, "norm").pvalue > 1e-3
    assert scipy.stats.kstest(slopes, scipy.stats.norm(0.0, 2.0).cdf).pvalue > 1e-3


def test_padded_rows_do_not_count_wherever_the_plate_lies():
    """Rows along the second of two axes."""

    def model(num_rows, y=None):
        level = numpyro.sample("level", dist.Normal(0.0, 1.0))
        with numpyro.plate("rows", num_rows, dim=-2), numpyro.plate("repeats", 3, dim=-1):
            numpyro.sample("y", dist.Normal(level, 1.0), obs=y)

    task = Task.from_numpyro(model, num_rows=(4, 9))
    dataset = task.prepare(Dataset(y=np.arange(12.0).reshape(4, 3) / 6.0))
    theta = jnp.asarray([0.2])
    expected = np.sum(scipy.stats.norm(0.2, 1.0).logpdf(np.arange(12.0) / 6.0))
    assert float(jax.jit(task.log_likelihood)(theta, dataset.pad_rows(16))) == pytest.approx(float(expected), abs=1e-4)


def mixture(num_rows, y=None):
    means = numpyro.sample("means", dist.Normal(0.0, 3.0).expand([2]).to_event(1))
    share = numpyro.sample("share", dist.Beta(2.0, 2.0))
    with numpyro.plate("rows", num_rows):
        member = numpyro.sample("member", dist.Bernoulli(share))
        numpyro.sample("y", dist.Normal(means[member], 1.0), obs=y)


def test_discrete_sites_in_the_row_plate_are_summed_row_by_row():
    task = Task.from_numpyro(mixture, num_rows=(5, 20))
    assert task.target == ("means", "share")
    dataset = task.prepare(Dataset(y=[-1.0, 0.3, 2.0])).pad_rows(8)
    sites = jax.jit(task.constrain)(jnp.asarray([0.3, -0.5, 0.2]), dataset)
    share, means = float(sites["share"]), np.asarray(sites["means"])
    y = np.asarray([-1.0, 0.3, 2.0])
    density = share * scipy.stats.norm(means[1], 1.0).pdf(y) + (1.0 - share) * scipy.stats.norm(means[0], 1.0).pdf(y)
    found = jax.jit(task.log_likelihood)(jnp.asarray([0.3, -0.5, 0.2]), dataset)
    assert float(found) == pytest.approx(float(np.log(density).sum()), abs=1e-4)


def change(time, count=None):
    rate = numpyro.sample("rate", dist.Gamma(2.0, 0.5).expand([2]).to_event(1))
    switch = numpyro.sample("switch", dist.DiscreteUniform(0, 11))
    with numpyro.plate("rows", len(time)):
        numpyro.sample("count", dist.Poisson(jnp.where(time < switch, rate[0], rate[1])), obs=count)


def test_other_discrete_sites_are_summed_jointly():
    task = Task.from_numpyro(change, lambda rng_key, num_rows: {"time": jnp.arange(num_rows)}, num_rows=(8, 20))
    counts = np.asarray([3, 5, 4, 6, 1, 0, 1, 2])
    dataset = task.prepare(Dataset(time=np.arange(8), count=counts))
    theta = jnp.asarray([0.1, 0.3])
    rate = np.asarray(jax.jit(task.constrain)(theta, dataset)["rate"])
    terms = [
        scipy.stats.poisson(np.where(np.arange(8) < switch, rate[0], rate[1])).logpmf(counts).sum()
        for switch in range(12)
    ]
    expected = scipy.special.logsumexp(terms) - np.log(12.0)
    assert float(jax.jit(task.log_likelihood)(theta, dataset)) == pytest.approx(float(expected), abs=1e-3)


def test_constants_are_arguments_and_inputs_of_the_network():
    def model(scale, num_rows, y=None):
        level = numpyro.sample("level", dist.Normal(0.0, scale))
        with numpyro.plate("rows", num_rows):
            numpyro.sample("y", dist.Normal(level, 1.0), obs=y)

    task = Task.from_numpyro(model, num_rows=(5, 20), constants={"scale": 2.0}, hyperprior={"scale": (0.5, 4.0)})
    wide = task.prepare(Dataset(y=[0.0, 1.0], constants={"scale": 4.0}))
    assert float(jax.jit(task.constrain)(jnp.ones(1), wide)["level"]) == pytest.approx(4.0)
    assert float(task.features(wide).context[0]) == pytest.approx(np.log(2.0), rel=1e-5)
    scales = jax.jit(jax.vmap(lambda key: task.sample_constants(key)["scale"]))(
        jax.random.split(jax.random.key(0), 200)
    )
    assert 0.5 <= float(scales.min()) < 0.7
    assert 3.0 < float(scales.max()) <= 4.0


def test_latent_sites_per_row_need_a_fixed_number_of_rows():
    from icl_bayes.examples.eight_schools import data, inputs, model

    with pytest.raises(ValueError, match="changes its shape with the number of rows"):
        Task.from_numpyro(
            lambda standard_error, effect=None: per_school(standard_error, effect), inputs, num_rows=(4, 20)
        )
    task = Task.from_numpyro(model, inputs, num_rows=8)
    assert task.dim == 10
    assert task.has_fixed_rows
    with pytest.raises(ValueError, match="exactly 8 rows; received 7"):
        task.prepare(Dataset(standard_error=np.ones(7), effect=np.zeros(7)))
    assert task.prepare(data()).padded_rows == 8


def per_school(standard_error, effect):
    with numpyro.plate("schools", len(standard_error)):
        theta = numpyro.sample("theta", dist.Normal(0.0, 5.0))
        numpyro.sample("effect", dist.Normal(theta, standard_error), obs=effect)


def _refused(body, match, **changes):
    options = {"num_rows": (4, 9)} | changes
    with pytest.raises(ValueError, match=match):
        Task.from_numpyro(body, **options)


def _observe(num_rows, level, y):
    with numpyro.plate("rows", num_rows):
        numpyro.sample("y", dist.Normal(level, 1.0), obs=y)


def test_what_cannot_be_done_is_refused():
    def improper(num_rows, y=None):
        level = numpyro.sample("level", dist.ImproperUniform(dist.constraints.real, (), ()))
        _observe(num_rows, level, y)

    def factor(num_rows, y=None):
        level = numpyro.sample("level", dist.Normal(0.0, 1.0))
        numpyro.factor("penalty", -(level**2))
        _observe(num_rows, level, y)

    def parameter(num_rows, y=None):
        _observe(num_rows, numpyro.param("level", 0.0), y)

    def always_observed(num_rows, y=None):
        level = numpyro.sample("level", dist.Normal(0.0, 1.0))
        numpyro.sample("anchor", dist.Normal(level, 1.0), obs=0.5)
        _observe(num_rows, level, y)

    def unbounded(num_rows, y=None):
        count = numpyro.sample("count", dist.Poisson(2.0))
        level = numpyro.sample("level", dist.Normal(0.0, 1.0))
        _observe(num_rows, level + count, y)

    def no_plate(num_rows, y=None):
        level = numpyro.sample("level", dist.Normal(0.0, 1.0))
        numpyro.sample("y", dist.Normal(level, jnp.ones(num_rows)), obs=y)

    def reduces(num_rows, x, y=None):
        level = numpyro.sample("level", dist.Normal(jnp.mean(x), 1.0))
        _observe(num_rows, level, y)

    def never_observed(num_rows, y=None):
        level = numpyro.sample("level", dist.Normal(0.0, 1.0))
        _observe(num_rows, level, None)

    def too_many(num_rows, y=None):
        bits = numpyro.sample("bits", dist.Bernoulli(0.5).expand([13]).to_event(1))
        level = numpyro.sample("level", dist.Normal(0.0, 1.0))
        _observe(num_rows, level + jnp.sum(bits), y)

    def prior_by_bit(num_rows, y=None):
        bit = numpyro.sample("bit", dist.Bernoulli(0.5))
        level = numpyro.sample("level", dist.Normal(3.0 * bit, 1.0))
        _observe(num_rows, level, y)

    def chain(num_rows, y=None):
        level = numpyro.sample("level", dist.Normal(0.0, 1.0))
        with numpyro.plate("rows", num_rows):
            state = numpyro.sample("state", dist.Bernoulli(0.5))
            numpyro.sample("y", dist.Normal(level + jnp.cumsum(state), 1.0), obs=y)

    _refused(improper, "improper")
    _refused(factor, "changes its density but not its simulations")
    _refused(parameter, "numpyro.param")
    _refused(always_observed, "observed even when the responses are missing")
    _refused(unbounded, "no finite list of values")
    _refused(no_plate, "do not lie in a plate")
    _refused(reduces, "masked rows are appended", inputs=normal_x)
    _refused(never_observed, "is observed by the argument 'y'")
    _refused(too_many, "more than 4096 assignments")
    _refused(prior_by_bit, "depends on the discrete site")
    _refused(chain, "not confined to their own row")


def test_arguments_that_nothing_gives_are_named():
    with pytest.raises(ValueError, match=re.escape("takes ['x'], and nothing says what they are")):
        Task.from_numpyro(regression, num_rows=9)
    with pytest.raises(ValueError, match="which the model 'regression' does not take"):
        Task.from_numpyro(regression, lambda rng_key, num_rows: {"z": jnp.ones(num_rows)}, num_rows=9)
    with pytest.raises(ValueError, match="has no response"):
        Task.from_numpyro(lambda x: regression(x), normal_x, num_rows=9)
    with pytest.raises(ValueError, match="must return arrays"):
        Task.from_numpyro(regression, lambda rng_key, num_rows: {"x": jnp.ones(2 * num_rows)}, num_rows=9)


def test_data_that_the_model_cannot_produce_are_refused():
    task = Task.from_numpyro(change, lambda rng_key, num_rows: {"time": jnp.arange(num_rows)}, num_rows=(8, 20))
    with pytest.raises(ValueError, match="outside of what the model can produce"):
        task.prepare(Dataset(time=np.arange(3), count=[1, -2, 0]))
    with pytest.raises(ValueError, match="takes whole numbers"):
        task.prepare(Dataset(time=np.arange(3), count=[1.5, 2.0, 0.0]))
    with pytest.raises(ValueError, match=re.escape("missing ['count']")):
        task.prepare(Dataset(time=np.arange(3)))
    with pytest.raises(ValueError, match="missing or infinite"):
        task.prepare(Dataset(time=np.arange(3), count=[1.0, np.nan, 0.0]))


def test_labels_that_were_never_simulated_are_refused():
    from icl_bayes.examples.varying_intercepts import task as make

    task = make()
    assert task.features(task.example).rows.shape[1] == 8 + 2 + 2  # one per group, two for each of x and y
    with pytest.raises(ValueError, match="which inputs never simulates"):
        task.prepare(Dataset(group=[0, 9], x=[0.0, 1.0], y=[0.0, 1.0]))


@pytest.mark.parametrize(
    "name", ["eight_schools", "varying_intercepts", "autoregression", "change_point", "dose_response"]
)
def test_examples_are_tasks_with_data(name):
    address = f"icl_bayes.examples.{name}:task"
    task = load_program(address)
    assert make_task(f"custom/{address}") is task
    assert task.name == f"custom/{address}"
    dataset = task.prepare(importlib.import_module(f"icl_bayes.examples.{name}").data())
    theta, simulated = joint_draw(task, jax.random.key(0), task.paper_num_rows)
    for one in (dataset, simulated):
        gradient = jax.jit(jax.grad(task.log_joint))(theta, one)
        assert np.isfinite(np.asarray(gradient)).all()
    back = jax.jit(task.unconstrain)(jax.jit(task.constrain)(theta, simulated), simulated)
    np.testing.assert_allclose(back, theta, atol=2e-3)


def test_an_autoregression_has_the_density_of_its_recursion():
    from icl_bayes.examples.autoregression import data
    from icl_bayes.examples.autoregression import task as make

    task = make()
    dataset = task.prepare(data())
    theta = jnp.asarray([0.2, 0.5, -0.3, 0.1])
    sites = {name: np.asarray(value, np.float64) for name, value in jax.jit(task.constrain)(theta, dataset).items()}
    second = sites["partial"][1]
    first = sites["partial"][0] * (1.0 - second)
    y = np.concatenate([[sites["level"]] * 2, dataset["y"]]) - sites["level"]
    residuals = y[2:] - first * y[1:-1] - second * y[:-2]
    expected = scipy.stats.norm(0.0, sites["noise"]).logpdf(residuals).sum()
    assert float(jax.jit(task.log_likelihood)(theta, dataset.pad_rows(128))) == pytest.approx(float(expected), abs=2e-2)


def test_addresses_that_lead_nowhere_are_explained(tmp_path, monkeypatch):
    (tmp_path / "models_of_mine.py").write_text("value = 3\ndef needs(argument): ...\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="does not say where a task is"):
        load_program("eight_schools")
    with pytest.raises(ValueError, match="no module 'no_such_module'"):
        load_program("no_such_module:task")
    with pytest.raises(ValueError, match="has no 'task'"):
        load_program("models_of_mine:task")
    with pytest.raises(ValueError, match="expected an icl_bayes.Task"):
        load_program("models_of_mine:needs")
