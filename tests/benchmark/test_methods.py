"""Names of methods, and what is recorded under them."""

from __future__ import annotations

import pytest

import icl_bayes
from icl_bayes.benchmark.methods import MethodRegistry


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        ("glm/1", {"icl": "multistep steps=2", "icl@3": "midpoint steps=3"}),
        ("gmm/1", {"icl": "exponential steps=10 exponent=2", "icl@3": "exponential steps=3 exponent=2"}),
    ],
)
def test_efforts_are_recorded_with_the_solver_that_was_used(network: str, expected: dict[str, str]) -> None:
    methods = MethodRegistry([*expected]).of(icl_bayes.load(network).task)
    assert {method.solver for method in methods} == {*expected.values()}
    assert {(method.name, method.variant) for method in methods} == {("icl", "informed")}
    steps = {method.solver: method.sampler.solver.label for method in methods}
    assert all(label.startswith(solver.split()[0]) for solver, label in steps.items())


def test_efforts_that_are_the_same_are_recorded_once() -> None:
    assert len(MethodRegistry(["icl", "icl@10", "icl@4"]).of(icl_bayes.load("gmm/1").task)) == 2
