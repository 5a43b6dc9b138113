"""What is compared: cases (data sets to answer) and methods (who answers)."""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import jax
import numpy as np

from icl_bayes.types import Array, Dataset, SampleResult

SPLITS = ("synthetic", "real")
SHIFTED = "shifted ("
"""How the splits of data that were generated under other conditions begin."""


class ComparedSites(Protocol):
    """The part of a task that the benchmark uses."""

    def compared_matrix(self, sites: Mapping[str, Any]) -> np.ndarray:
        """Compared sites of stacked draws as one matrix ``(num_draws, D)``, constrained units."""
        ...


@dataclass(frozen=True, eq=False)
class Case:
    """One data set on which every method is scored.

    Attributes:
        family, scenario: e.g. ``glm`` and ``5``.
        split: ``synthetic``, ``real`` or, for data that the model was not made for, ``shifted (HOW)``.
        name: of the data set within its split: a table's name or an index.
        seed: test seed; every random choice made for this case follows from it.
        dataset: the data, as the methods receive it.
        n, p: rows and columns, as recorded.
        task: gives the matrix of compared sites.
        theta: ``(dim,)`` unconstrained, what a simulated data set was generated from: one more
            start for the search of modes by the reference, never shown to a method.
    """

    family: str
    scenario: str
    split: str
    name: str
    seed: int
    dataset: Dataset
    n: int
    p: int
    task: ComparedSites
    theta: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.split not in SPLITS and not self.split.startswith(SHIFTED):
            raise ValueError(f"split must be one of {', '.join(SPLITS)} or {SHIFTED}...); received {self.split!r}.")

    @property
    def identity(self) -> str:
        """A readable name, unique within a benchmark."""
        return f"{self.family}/{self.scenario} {self.split} {self.name} n={self.n} p={self.p} seed={self.seed}"

    @property
    def random_seed(self) -> int:
        """Seed for what NumPy and scikit-learn draw for this case."""
        return stable_hash(self.identity)

    @property
    def digest(self) -> str:
        """Fingerprint of the data themselves, so that a changed data set never meets an old reference."""
        sha = hashlib.sha256()
        for part in (self.dataset.rows, self.dataset.constants):
            for name in sorted(part):
                sha.update(name.encode())
                sha.update(np.ascontiguousarray(part[name]).tobytes())
        sha.update(np.asarray(self.dataset.row_mask, bool).tobytes())
        if self.dataset.column_mask is not None:
            sha.update(np.asarray(self.dataset.column_mask, bool).tobytes())
        return sha.hexdigest()[:12]


def case_of(
    task: Any,
    dataset: Dataset,
    *,
    split: str,
    name: str | int,
    seed: int,
    p: int | None = None,
    theta: np.ndarray | None = None,
) -> Case:
    """A case of a `Task` called ``family/scenario``; n and p are read from the data.

    Args:
        task: the model.
        dataset: prepared data set.
        split: ``synthetic`` or ``real``.
        name: of the data set within its split.
        seed: test seed.
        p: number of columns; by default that of the first row array with two axes, else 1.
        theta: see :class:`Case`.
    """
    family, _, scenario = task.name.partition("/")
    columns = next((array.shape[1] for array in dataset.rows.values() if len(array.shape) == 2), 1) if p is None else p
    n = int(np.sum(np.asarray(dataset.row_mask)))
    return Case(family, scenario, split, str(name), seed, dataset, n, int(columns), task, theta)


class HasSample(Protocol):
    """Anything that draws: a `Sampler` of the baselines, or a loaded network."""

    def sample(self, rng_key: Array, dataset: Dataset, num_draws: int) -> SampleResult:
        """Draw from the posterior of one data set."""
        ...


@dataclass(frozen=True)
class Method:
    """A sampler with the labels under which it is recorded.

    Attributes:
        sampler: draws; ``None`` only for rows that nobody samples, those of the reference itself.
        name: e.g. ``icl``, ``laplace``, ``vi``, ``nuts``.
        variant: which form of it, e.g. ``informed`` or ``informed+polish`` or ``full``.
        checkpoint: which weights.
        solver: how much effort, e.g. ``midpoint steps=4`` or ``moves=20``. Rows that differ only
            here are points of one curve in the plots of quality against time.
    """

    sampler: HasSample | None
    name: str
    variant: str = ""
    checkpoint: str = ""
    solver: str = ""

    @property
    def label(self) -> str:
        """Name for people: method, variant and effort."""
        return method_label(self.name, self.variant, self.solver)


def method_label(name: str, variant: str, solver: str = "") -> str:
    """The name under which tables and plots show a method."""
    return " ".join(part for part in (name, variant, f"({solver})" if solver else "") if part)


def as_method(sampler: Any) -> Method:
    """``sampler`` itself if it is a `Method`; else one labelled by its attributes of those names."""
    if isinstance(sampler, Method):
        return sampler
    if not getattr(sampler, "name", ""):
        raise ValueError(f"{type(sampler).__name__} has no name to be recorded under; wrap it in Method(...).")
    labels = {label: str(getattr(sampler, label, "") or "") for label in ("name", "variant", "checkpoint", "solver")}
    return Method(sampler, **labels)


Methods = Sequence[Any] | Callable[[Case], Sequence[Any]]
"""A sequence of methods, or a callable from a case to one (a network may serve one scenario only)."""

ReferenceProvider = Callable[[Case], SampleResult]
"""Draws the reference of a case: at least twice the draws compared, near-independent.

It fails by status ``failed`` or by raising; the message is recorded. ``health["ess"]`` holds
the effective size, where it was estimated.
"""


def slug(*parts: Any) -> str:
    """A file name made of ``parts``; a short hash keeps names apart that differ in other characters."""
    text = "-".join(str(part) for part in parts if str(part))
    plain = re.sub(r"[^A-Za-z0-9.+=_-]+", "_", text)[:120]
    return plain if plain == text else f"{plain}-{stable_hash(text):08x}"


def stable_hash(text: str) -> int:
    """A hash of at most 31 bits that is the same in every process."""
    return zlib.crc32(text.encode()) & 0x7FFFFFFF


def draw_key(case: Case, method: Method) -> Array:
    """The key of one method on one case: independent of the order of the run and of other methods."""
    label = "|".join((method.name, method.variant, method.checkpoint, method.solver))
    return jax.random.fold_in(jax.random.key(case.random_seed), stable_hash(label))
