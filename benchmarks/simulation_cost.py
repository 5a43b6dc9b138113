"""Cost per step of simulating data sets with exact-start targets, against the gradient step they feed.

A pool of data sets is simulated per compiled call and serves several passes of gradient steps.

python benchmarks/simulation_cost.py [--scenarios 1 2 3 4 5 6 7]
"""

from __future__ import annotations

import argparse

import jax
from timing import median_seconds, print_table, write_table

from icl_bayes.config import compose
from icl_bayes.training import build_network
from icl_bayes.training.network import batch_loss
from icl_bayes.training.step import batch_size_of, data_mesh, make_pool_fn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenarios", type=int, nargs="+", default=[1, 5, 7])
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    rows = []
    for scenario in options.scenarios:
        config = compose("train", [f"scenario={scenario}"]).network()
        network, mesh = build_network(config), data_mesh()
        params = network.init(0)
        for padded_rows in config.training.row_buckets:
            size = batch_size_of(config.training, padded_rows, mesh.devices.size)
            simulate = jax.jit(make_pool_fn(network, config.training, mesh, padded_rows))
            gradient = jax.jit(
                jax.grad(lambda params, key, targets, net=network: batch_loss(net, params, key, targets))
            )
            pool = simulate(jax.random.key(0))
            targets = jax.tree.map(lambda leaf, b=size: leaf[:b], pool)
            jax.block_until_ready(gradient(params, jax.random.key(1), targets))
            pool_seconds = median_seconds(lambda i, fn=simulate: fn(jax.random.key(i)), options.repeats)
            batch_seconds = pool_seconds / config.training.steps_per_call
            step_seconds = median_seconds(
                lambda i, fn=gradient, w=params, data=targets: fn(w, jax.random.key(i), data), options.repeats
            )
            rows.append(
                {
                    "scenario": f"glm/{scenario}",
                    "padded_rows": padded_rows,
                    "datasets": size,
                    "draws": size * config.targets.num_draws,
                    "pool": pool.theta.shape[0],
                    "simulate_ms": round(1e3 * batch_seconds, 2),
                    "gradient_ms": round(1e3 * step_seconds, 2),
                    "ratio": round(step_seconds / batch_seconds, 2),
                }
            )
    print_table(rows)
    print(write_table("simulation_cost", rows))


if __name__ == "__main__":
    main()
