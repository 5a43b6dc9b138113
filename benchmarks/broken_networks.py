"""Networks that were broken on purpose: does the certificate notice, and does the repair mend their draws?

Of every scenario and kind of damage, some simulated data sets (test seed): C2ST of the raw and of the refined draws
against the task's reference, and both verdicts. Writes `benchmarks/results/broken_networks.csv`, a line per data set;
run again it computes what is missing.

    python benchmarks/broken_networks.py [--scenarios glm/1 glm/5 fa/3 gmm/2] [--datasets 6]
"""

from __future__ import annotations

import argparse
import dataclasses
import time
import warnings
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from certificate_tables import broken
from timing import recorded, write_table

import icl_bayes
from icl_bayes.baselines import reference_draws
from icl_bayes.baselines.programs import release_programs
from icl_bayes.benchmark.cases import Case
from icl_bayes.benchmark.settings import TEST_SEED
from icl_bayes.benchmark.suites import synthetic_suite, task_under_test
from icl_bayes.evaluation.two_sample import two_sample_scores
from icl_bayes.inference import AmortizedPosterior, Posterior, load
from icl_bayes.training.network import Network, Velocity
from icl_bayes.types import Array, Dataset

NAME, NUM_DRAWS = "broken_networks", 1000
OTHERS = {"glm/1": "glm/3", "glm/2": "glm/4", "glm/5": "glm/1", "fa/3": "fa/6", "gmm/2": "gmm/4", "gmm/4": "gmm/2"}
"""Another scenario whose network has the same shapes."""


class ShuffledMemory(Network):
    """Every data set is read as one and the same other data set; base and score stay its own."""

    def features(self, dataset: Dataset) -> Any:
        _, other = self.task.simulate(jax.random.key(5), dataset.num_rows, dataset.padded_rows)
        return Network.features(self, other)


class SlowVelocity(Network):
    """The velocity is a fifth too small."""

    def velocity(self, model: Any, memory: Any, affine: Any, dataset: Dataset, view: Any) -> Velocity:
        velocity = Network.velocity(self, model, memory, affine, dataset, view)
        return lambda t, x: 0.8 * velocity(t, x)


def with_network(net: AmortizedPosterior, kind: type[Network]) -> AmortizedPosterior:
    fields = {field.name: getattr(net.network, field.name) for field in dataclasses.fields(Network)}
    return AmortizedPosterior(kind(**fields), net.params, net.checkpoint, kind.__name__, net.solver)


def with_params(net: AmortizedPosterior, params: Any, label: str) -> AmortizedPosterior:
    return AmortizedPosterior(net.network, params, net.checkpoint, label, net.solver)


def half_trained(net: AmortizedPosterior) -> AmortizedPosterior:
    """Weights half way between fresh and trained ones."""
    fresh = net.network.init(0)
    return with_params(net, jax.tree.map(lambda new, old: 0.5 * (new + old), fresh, net.params), "half trained")


BREAKS: dict[str, Callable[[AmortizedPosterior, str], AmortizedPosterior]] = {
    "intact": lambda net, name: net,
    "shuffled memory": lambda net, name: with_network(net, ShuffledMemory),
    "half trained": lambda net, name: half_trained(net),
    "wrong scenario": lambda net, name: with_params(net, load(OTHERS[name]).params, "wrong scenario"),
    "slow velocity": lambda net, name: with_network(net, SlowVelocity),
}
MODE_REMOVED = "one mode removed"


def without_a_mode(post: Posterior, generator: np.random.Generator) -> Posterior:
    """Draws beyond the middle of the widest gap of any direction are replaced by others; densities are as they were.

    Of a mixture directions are those of its components in order of their first means, so that a gap is one of clusters.
    """
    theta = post.theta
    if post.task.num_exchangeable:
        parts = theta[:, post.task.components]
        order = np.argsort(parts[:, :, -1], axis=1)
        values = np.take_along_axis(parts, order[:, :, None], axis=1).reshape(len(theta), -1)
    else:
        values = theta
    ordered = np.sort(values, axis=0)[20:-20]
    gaps = np.diff(ordered, axis=0) / values.std(axis=0)
    where, column = np.unravel_index(np.argmax(gaps), gaps.shape)
    cut = 0.5 * (ordered[where, column] + ordered[where + 1, column])
    above = values[:, column] > cut
    kept = np.flatnonzero(above if above.mean() >= 0.5 else ~above)
    index = np.where(np.isin(np.arange(len(theta)), kept), np.arange(len(theta)), generator.choice(kept, len(theta)))
    # With several modes only weights are at hand, of a draw with its mode.
    densities = post.densities and jax.tree.map(lambda leaf: leaf[index] if leaf.size > 1 else leaf, post.densities)
    sites = {name: value[index] for name, value in post.sites.items()}
    return dataclasses.replace(post, theta=theta[index], sites=sites, densities=densities)


def judged(net: AmortizedPosterior, kind: str, case: Case, reference: np.ndarray, key: Array) -> dict[str, Any]:
    """Verdicts and scores of one data set."""
    task = net.task
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        post = net.sample(jax.random.fold_in(key, 0), case.dataset, NUM_DRAWS, with_log_prob=True)
        if kind == MODE_REMOVED:
            post = without_a_mode(post, np.random.default_rng(case.random_seed))
        raw = post.certificate()
        started = time.perf_counter()
        refined = post.refine(jax.random.fold_in(key, 1))
        seconds = time.perf_counter() - started
    certificate = refined.certificate()

    def excess(draws: Posterior, part: int) -> float:
        half = reference[part * NUM_DRAWS : (part + 1) * NUM_DRAWS]
        components = tuple(map(tuple, task.compared_components.tolist())) if task.num_exchangeable else ()
        scores = two_sample_scores(
            task.compared_matrix(draws.sites), half, seed=case.random_seed, metrics=("c2st",), components=components
        )
        return round(float(scores["c2st"]) - 0.5, 4)

    return {
        "scenario": task.name,
        "broken": kind,
        "dataset": case.name,
        "raw_excess": excess(post, 0),
        "raw_verdict": raw.verdict,
        "khat": round(raw.khat, 3),
        "total_variation": round(raw.total_variation, 3),
        "refined_excess": excess(refined, 1),
        "refined_verdict": certificate.verdict,
        "path": " > ".join(step.name for step in certificate.path),
        "seconds": round(seconds, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenarios", nargs="+", default=["glm/1", "glm/5", "fa/3", "gmm/2"])
    parser.add_argument("--datasets", type=int, default=6)
    options = parser.parse_args()
    for name in options.scenarios:
        family, _, scenario = name.partition("/")
        task = task_under_test(family, scenario, 5)
        cases = synthetic_suite(task, num_datasets=options.datasets, num_rows=task.paper_num_rows, seed=TEST_SEED).cases
        references: dict[str, np.ndarray] = {}
        for kind in (*BREAKS, MODE_REMOVED):
            known = {line["dataset"] for line in recorded(NAME) if (line["scenario"], line["broken"]) == (name, kind)}
            missing = [case for case in cases if case.name not in known]
            if not missing:
                continue
            net = BREAKS.get(kind, BREAKS["intact"])(icl_bayes.load(name), name)
            lines = []
            for case in missing:
                key = jax.random.key(case.random_seed)
                if case.name not in references:
                    result = reference_draws(task, case.dataset, jax.random.fold_in(key, 2), 2 * NUM_DRAWS, quick=True)
                    references[case.name] = task.compared_matrix(result.sites)
                lines.append(judged(net, kind, case, references[case.name], key))
                print(lines[-1], flush=True)
            write_table(NAME, [*recorded(NAME), *lines])
            release_programs()
    print(broken())


if __name__ == "__main__":
    main()
