"""What a certified posterior saves those who run NUTS anyway: chains that start from its draws and mass matrix.

NumPyro's own MCMC on regressions as users write them (n = 200, p = 10), four chains side by side: cold, 1000 steps of
warm-up and 1000 draws; warm, from `post.numpyro_start`, 50 steps for the step size and 1000 draws, with the
seconds of the certified posterior itself. All in one process, compilation apart. Writes
`benchmarks/results/warm_start.csv`.

    python benchmarks/warm_start.py [--repeats 5]
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.diagnostics import effective_sample_size
from numpyro.infer import MCMC, NUTS
from regression_speed import NUM_COLUMNS, NUM_DRAWS, simulated
from timing import print_table, write_table

from icl_bayes.inference.gaussian_source import GaussianSource
from icl_bayes.tasks import Task

NUM_CHAINS, COLD_WARMUP, WARM_WARMUP = 4, 1000, 50


def gaussian(x, y=None):
    sigma, mean = numpyro.sample("sigma", dist.HalfNormal(1.0)), linear(x)
    with numpyro.plate("rows", len(x)):
        numpyro.sample("y", dist.Normal(mean, sigma), obs=y)


def bernoulli(x, y=None):
    logits = linear(x)
    with numpyro.plate("rows", len(x)):
        numpyro.sample("y", dist.Bernoulli(logits=logits), obs=y)


def poisson(x, y=None):
    rate = jnp.exp(linear(x))
    with numpyro.plate("rows", len(x)):
        numpyro.sample("y", dist.Poisson(rate), obs=y)


def linear(x):
    beta = numpyro.sample("beta", dist.Normal(0.0, 1.0).expand([NUM_COLUMNS]).to_event(1))
    return numpyro.sample("intercept", dist.Normal(0.0, 2.5)) + x @ beta


def covariates(rng_key, num_rows):
    return {"x": jax.random.normal(rng_key, (num_rows, NUM_COLUMNS))}


MODELS = {model.__name__: model for model in (gaussian, bernoulli, poisson)}


class Chains:
    """One configuration of NumPyro's sampler, compiled by its first run."""

    def __init__(self, model: Any, num_warmup: int, **kernel: Any) -> None:
        options: dict[str, Any] = {"num_chains": NUM_CHAINS, "chain_method": "vectorized", "progress_bar": False}
        nuts = NUTS(model, dense_mass=bool(kernel), **kernel)
        self.mcmc = MCMC(nuts, num_warmup=num_warmup, num_samples=NUM_DRAWS, jit_model_args=True, **options)

    def run(self, rng_key: jax.Array, x: Any, y: Any, **options: Any) -> tuple[float, float]:
        """Seconds, and the smallest effective number of draws of any coefficient."""
        started = time.perf_counter()
        self.mcmc.run(rng_key, x, y, **options)
        samples = jax.block_until_ready(self.mcmc.get_samples(group_by_chain=True))
        seconds = time.perf_counter() - started
        return seconds, min(float(np.min(effective_sample_size(np.asarray(one)))) for one in samples.values())


def timed(family: str, repeats: int) -> dict[str, Any]:
    model, dataset = MODELS[family], simulated(family)
    source = GaussianSource(Task.from_numpyro(model, covariates, num_rows=(50, 400)))
    x, y = (jnp.asarray(dataset[name], jnp.float32) for name in ("x", "y"))

    def certified(repeat: int) -> Any:
        draw_key, refine_key, start_key = jax.random.split(jax.random.key(repeat), 3)
        started = time.perf_counter()
        post = source.sample(draw_key, dataset, NUM_DRAWS).refine(refine_key)
        start = post.numpyro_start(start_key, num_chains=NUM_CHAINS)
        return time.perf_counter() - started, start

    _, start = certified(0)
    matrix = jnp.asarray(start.inverse_mass_matrix, jnp.float32)
    cold = Chains(model, COLD_WARMUP)
    warm = Chains(model, WARM_WARMUP, inverse_mass_matrix=matrix, adapt_mass_matrix=False)
    runs: dict[str, list[tuple[float, float]]] = {"cold": [], "warm": []}
    for repeat in range(repeats + 1):
        seconds, start = certified(1 + repeat)
        init_params = jax.tree.map(jnp.asarray, start.init_params)
        runs["cold"].append(cold.run(jax.random.key(repeat), x, y))
        found = warm.run(jax.random.key(repeat), x, y, init_params=init_params)
        runs["warm"].append((found[0] + seconds, found[1]))
    line: dict[str, Any] = {"family": family}
    for name, values in runs.items():  # the first compiled
        line[f"{name}_ms"] = round(1000.0 * float(np.median([value[0] for value in values[1:]])), 1)
        line[f"{name}_ess"] = round(float(np.median([value[1] for value in values[1:]])), 0)
    line["time_saved"] = f"{1.0 - line['warm_ms'] / line['cold_ms']:.0%}"
    rate = (line["warm_ess"] / line["warm_ms"]) / (line["cold_ess"] / line["cold_ms"])
    return line | {"ess_per_second_ratio": round(rate, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    lines = [timed(family, options.repeats) for family in MODELS]
    print(write_table("warm_start", lines))
    print_table(lines)


if __name__ == "__main__":
    main()
