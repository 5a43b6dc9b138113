"""Traced programs on disk: a process that samples once spends more time on tracing than on anything else.

JAX's compilation cache saves compiling, but a program is looked up there only once it is traced and
lowered. A program kept here is found by what its trace depends on, before that.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.export
import jax.extend
import jax.numpy as jnp

from icl_bayes.compiler import compile_lowered

PACKAGE = Path(__file__).parents[1]
_TRACED_BY = ("jax", "jaxlib", "flax", "numpyro", "blackjax", "numpy")
_SETTINGS = ("jax_enable_x64", "jax_default_matmul_precision", "jax_threefry_partitionable", "jax_default_prng_impl")


@cache
def _versions() -> str:
    """Digest of this package's code and of the libraries that take part in a trace."""
    digest = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        digest.update(str(path.relative_to(PACKAGE)).encode())
        digest.update(path.read_bytes())
    for name in _TRACED_BY:
        try:
            digest.update(f"{name} {version(name)}".encode())
        except PackageNotFoundError:
            digest.update(f"{name} absent".encode())
    return digest.hexdigest()


def code_identity() -> str:
    """What every trace depends on: code, and JAX's settings."""
    platform = jax.extend.backend.get_backend().platform_version
    return " ".join([_versions(), platform, *(str(getattr(jax.config, name)) for name in _SETTINGS)])


class Lowered(NamedTuple):
    """A program before compilation.

    Attributes:
        compile: returns the callable; may run in another thread.
        out: shapes and types of what it returns.
    """

    compile: Callable[[], Callable[..., Any]]
    out: Any


def lower(fn: Callable[..., Any], arguments: tuple, out_tree: Any = None) -> Lowered:
    """``fn`` traced for the shapes of ``arguments``; what it returns need not be known."""
    del out_tree
    lowered = jax.jit(fn).lower(*arguments)
    return Lowered(lowered.compile, lowered.out_info)


@dataclass(frozen=True)
class ProgramStore:
    """Programs in a directory, one file each; what can't be read is traced again, what can't be written is not kept.

    Attributes:
        directory: created when first written to.
        options: of the compiler; without them if it does not know them.
    """

    directory: Path
    options: Mapping[str, Any] = field(default_factory=dict)

    def lower(self, fn: Callable[..., Any], arguments: tuple, out_tree: Any, identity: str) -> Lowered:
        """Like :func:`lower`, from a stored trace if there is one.

        Args:
            fn: a function of trees of arrays; called only where there is no stored trace.
            arguments: examples; for arrays other than random keys their shapes will do.
            out_tree: any tree of the structure that ``fn`` returns.
            identity: all that ``fn`` depends on beside this package's code and the shapes.
        """
        leaves, in_structure = jax.tree.flatten(arguments)
        out_structure = jax.tree.structure(out_tree)
        keys = [jax.random.key_impl(leaf) if _is_key(leaf) else None for leaf in leaves]

        def flat(*raw: Any) -> list[Any]:
            pairs = zip(raw, keys, strict=True)
            given = [value if impl is None else jax.random.wrap_key_data(value, impl=impl) for value, impl in pairs]
            out = fn(*jax.tree.unflatten(in_structure, given))
            if jax.tree.structure(out) != out_structure:
                raise TypeError(f"Expected a result of structure {out_structure}; got {jax.tree.structure(out)}.")
            return jax.tree.leaves(out)

        raw = [_raw(leaf) for leaf in leaves]
        shapes = [f"{leaf.dtype}{list(leaf.shape)}" for leaf in leaves]
        text = "\n".join([code_identity(), identity, str(in_structure), str(out_structure), *shapes])
        path = self.directory / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.export"
        exported = _read(path)
        if exported is None:
            exported = _export(flat, raw)
            if exported is not None:
                _write(path, exported)
        lowered = jax.jit(flat if exported is None else exported.call).lower(*raw)

        def compile_it() -> Callable[..., Any]:
            compiled = compile_lowered(lowered, self.options)

            def run(*arguments: Any) -> Any:
                given = [_raw(leaf) for leaf in jax.tree.leaves(arguments)]
                return jax.tree.unflatten(out_structure, compiled(*given))

            return run

        return Lowered(compile_it, jax.tree.unflatten(out_structure, lowered.out_info))


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _raw(leaf: Any) -> Any:
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf


_DIGEST = hashlib.sha256().digest_size


def _read(path: Path) -> jax.export.Exported | None:
    """The program of a file, which starts with a digest: what is damaged may look well and compute nonsense."""
    try:
        contents = path.read_bytes()
        digest, program = contents[:_DIGEST], contents[_DIGEST:]
        if hashlib.sha256(program).digest() != digest:
            return None
        return jax.export.deserialize(bytearray(program))
    except Exception:  # missing, or of another format: nothing is lost but time
        return None


def _export(flat: Callable[..., Any], raw: list[Any]) -> jax.export.Exported | None:
    """``None`` for a program that JAX can't export, e.g. with calls that it does not promise to keep."""
    try:
        return jax.export.export(jax.jit(flat))(*raw)
    except (ValueError, NotImplementedError):
        return None


def _write(path: Path, exported: jax.export.Exported) -> None:
    """All or nothing: another process may read at any time."""
    program = exported.serialize()
    written = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            written = Path(file.name)
            file.write(hashlib.sha256(program).digest() + program)
        os.replace(written, path)
    except OSError:
        if written is not None:
            written.unlink(missing_ok=True)
