"""Stored traces: the same results without tracing, and nothing lost when the store is of no use."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import icl_bayes
from icl_bayes.inference.program_store import ProgramStore, code_identity, lower
from icl_bayes.inference.sampler import Sampler


class Pair(NamedTuple):
    total: jax.Array
    noise: jax.Array


OUT = (Pair(0, 0), {"b": 0, "a": 0})  # type: ignore[arg-type]


class Counting:
    """A function that knows how often it was traced."""

    def __init__(self) -> None:
        self.traces = 0

    def __call__(self, tree: dict, key: jax.Array) -> tuple[Pair, dict]:
        self.traces += 1
        noise = jax.random.normal(key, tree["x"].shape)
        return Pair(jnp.sum(tree["x"]), noise), {"a": tree["x"] + noise, "b": tree["y"] * 2}


ARGUMENTS = ({"x": jnp.arange(3.0), "y": jnp.asarray(2, jnp.int32)}, jax.random.key(4))


def assert_same(got, expected) -> None:
    """To rounding: programs compiled apart may add in another order."""
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), got, expected)


def files(store: ProgramStore) -> list[Path]:
    return sorted(store.directory.iterdir())


def test_a_stored_trace_is_used_and_gives_the_same(tmp_path: Path) -> None:
    store, fn = ProgramStore(tmp_path / "programs"), Counting()
    plain = lower(fn, ARGUMENTS)
    expected = plain.compile()(*ARGUMENTS)
    assert plain.out == jax.eval_shape(fn, *ARGUMENTS)
    fn.traces = 0
    for _ in range(2):
        lowered = store.lower(fn, ARGUMENTS, OUT, "it")
        assert lowered.out == plain.out
        got = lowered.compile()(*ARGUMENTS)
        assert_same(got, expected)
        assert isinstance(got[0], Pair)
    assert fn.traces == 1
    other = ({"x": jnp.ones(3), "y": jnp.asarray(5, jnp.int32)}, jax.random.key(9))
    assert_same(store.lower(fn, other, OUT, "it").compile()(*other), fn(*other))


def test_shapes_may_stand_for_arrays(tmp_path: Path) -> None:
    shapes = jax.eval_shape(lambda tree: tree, ARGUMENTS[0])
    store, fn = ProgramStore(tmp_path), Counting()
    got = store.lower(fn, (shapes, ARGUMENTS[1]), OUT, "it").compile()(*ARGUMENTS)
    assert_same(got, fn(*ARGUMENTS))


@pytest.mark.parametrize(
    "change", ["identity", "shape", "type", "structure", "code"], ids=lambda change: f"another {change}"
)
def test_whatever_the_trace_depends_on_has_its_own_file(
    change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, fn = ProgramStore(tmp_path), Counting()
    store.lower(fn, ARGUMENTS, OUT, "it")
    tree, key = ARGUMENTS
    if change == "shape":
        tree = {**tree, "x": jnp.arange(4.0)}
    if change == "type":
        tree = {**tree, "y": jnp.asarray(2.0)}
    if change == "structure":
        tree = {**tree, "z": None, "w": jnp.zeros(())}
    if change == "code":
        monkeypatch.setattr("icl_bayes.inference.program_store.code_identity", lambda: "of another version")
    store.lower(fn, (tree, key), OUT, "another" if change == "identity" else "it")
    assert fn.traces == 2
    assert len(files(store)) == 2


def test_settings_of_jax_are_part_of_the_identity() -> None:
    before = code_identity()
    with jax.default_matmul_precision("highest"):
        assert code_identity() != before
    assert code_identity() == before


def flip(text: bytes) -> bytes:
    middle = len(text) // 2
    return text[:middle] + bytes([text[middle] ^ 1]) + text[middle + 1 :]


@pytest.mark.parametrize("damage", [lambda text: b"", lambda text: text[:100], lambda text: b"x" * len(text), flip])
def test_a_damaged_file_is_replaced(damage, tmp_path: Path) -> None:
    store, fn = ProgramStore(tmp_path), Counting()
    store.lower(fn, ARGUMENTS, OUT, "it")
    [path] = files(store)
    path.write_bytes(damage(path.read_bytes()))
    got = store.lower(fn, ARGUMENTS, OUT, "it").compile()(*ARGUMENTS)
    assert_same(got, fn(*ARGUMENTS))
    fn.traces = 0
    store.lower(fn, ARGUMENTS, OUT, "it")
    assert fn.traces == 0
    assert files(store) == [path]


def test_a_store_that_cannot_be_written_costs_only_time(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    store, fn = ProgramStore(tmp_path / "file" / "programs"), Counting()
    got = store.lower(fn, ARGUMENTS, OUT, "it").compile()(*ARGUMENTS)
    assert_same(got, fn(*ARGUMENTS))


def test_programs_that_cannot_be_exported_are_compiled_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(fn):
        raise ValueError("no guarantees for custom calls")

    monkeypatch.setattr(jax.export, "export", refuse)
    store, fn = ProgramStore(tmp_path), Counting()
    assert_same(store.lower(fn, ARGUMENTS, OUT, "it").compile()(*ARGUMENTS), fn(*ARGUMENTS))
    assert not files(store)


@pytest.mark.parametrize("option", ["xla_no_such_option", "xla_cpu_use_fusion_emitters"])
def test_options_the_compiler_does_not_know_are_left_out(option: str, tmp_path: Path) -> None:
    fn = Counting()
    got = ProgramStore(tmp_path, {option: False}).lower(fn, ARGUMENTS, OUT, "it").compile()(*ARGUMENTS)
    assert_same(got, fn(*ARGUMENTS))


def test_a_result_of_another_structure_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="Expected a result of structure"):
        ProgramStore(tmp_path).lower(Counting(), ARGUMENTS, (0, 1), "it")


@pytest.mark.parametrize("name", ["glm/1", pytest.param("fa/2", marks=pytest.mark.slow)])  # Gaussian, and warped
def test_networks_with_a_store_draw_the_same(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((30, 5))
    dataset = icl_bayes.Dataset(x=x, y=x @ [0.8, 0.4, -0.2, 0.6, 0.1] + 0.7 * rng.standard_normal(30))
    if name == "fa/2":
        dataset = icl_bayes.Dataset(x=x[:, :3])
    key = jax.random.key(3)
    expected = icl_bayes.load(name).sample(key, dataset, 50)
    for _ in range(2):
        net = icl_bayes.load(name)
        net.store = ProgramStore(tmp_path)
        got = net.sample(key, dataset, 50)
        np.testing.assert_allclose(got.theta, expected.theta, atol=1e-5)
        assert got.info["base_decrement"] == pytest.approx(expected.info["base_decrement"], abs=1e-6)
        assert len(files(net.store)) == 2, "One for the base and one for the flow, once."
        monkeypatch.setattr(Sampler, "flow", None)  # the second time there is nothing to trace
        monkeypatch.setattr(Sampler, "find_base", None)
