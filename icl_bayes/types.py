"""The records that cross package boundaries: data sets, draws, and what a sampler returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array
AnyArray = jax.Array | np.ndarray
"""An array on the device or on the host, where both occur."""
Sites = Mapping[str, Any]
"""Named, constrained values of a model's latent sites: ``{site: (..., *site_shape)}``."""


@jax.tree_util.register_pytree_with_keys_class
class Dataset:
    """What is observed: named row arrays, a row mask, and known constants.

    ``Dataset(x=X, y=y)`` is the form a regression takes; other families name their rows
    as their task asks. Rows are exchangeable unless a task declares an index column.

    Args:
        row_mask: ``(n,)`` boolean, true for rows that exist; all true when omitted.
            Padded rows carry arbitrary finite values and never influence a result.
        column_mask: ``(p,)`` boolean for families with padded columns, else ``None``.
        constants: known quantities that are no rows, such as prior hyper-parameters.
        **rows: arrays whose leading axis is the row axis, ``(n,)`` or ``(n, p)``; none for a data set that
            is yet to be simulated, whose ``row_mask`` says how many there will be.

    Raises:
        ValueError: if neither rows nor a mask are given, or leading axes disagree.
    """

    rows: dict[str, AnyArray]
    row_mask: AnyArray
    column_mask: AnyArray | None
    constants: dict[str, AnyArray]

    def __init__(
        self,
        *,
        row_mask: Any | None = None,
        column_mask: Any | None = None,
        constants: Mapping[str, Any] | None = None,
        **rows: Any,
    ) -> None:
        if not rows and row_mask is None:
            raise ValueError("Dataset needs at least one row array, e.g. Dataset(x=X, y=y); received none.")
        arrays = {name: value if hasattr(value, "shape") else np.asarray(value) for name, value in rows.items()}
        lengths = {name: value.shape[0] if value.ndim else None for name, value in arrays.items()}
        if len(set(lengths.values())) > 1 or None in lengths.values():
            raise ValueError(
                f"All row arrays of a Dataset share their leading axis; received shapes "
                f"{ {name: tuple(value.shape) for name, value in arrays.items()} }."
            )
        self.rows = arrays
        given = next((value.shape[0] for value in arrays.values()), 0)
        self.row_mask = np.ones(given, bool) if row_mask is None else row_mask
        num_rows = given if arrays else self.row_mask.shape[0]
        if tuple(self.row_mask.shape) != (num_rows,):
            raise ValueError(f"row_mask must have shape ({num_rows},); received {tuple(self.row_mask.shape)}.")
        self.column_mask = column_mask
        self.constants = dict(constants or {})

    def __getitem__(self, name: str) -> AnyArray:
        return self.rows[name]

    def __contains__(self, name: str) -> bool:
        return name in self.rows

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name}={tuple(value.shape)}" for name, value in self.rows.items())
        return f"Dataset({shapes}, constants={sorted(self.constants)})"

    @property
    def padded_rows(self) -> int:
        """Length of the row axis, padding included (static under jit)."""
        return self.row_mask.shape[0]

    @property
    def num_rows(self) -> Array:
        """Number of rows that exist, ``()``."""
        return jnp.sum(self.row_mask)

    def replace(
        self,
        *,
        rows: Mapping[str, Any] | None = None,
        row_mask: Any | None = None,
        constants: Mapping[str, Any] | None = None,
    ) -> Dataset:
        """A copy with the given parts exchanged (``rows`` and ``constants`` as a whole)."""
        return Dataset(
            row_mask=self.row_mask if row_mask is None else row_mask,
            column_mask=self.column_mask,
            constants=self.constants if constants is None else constants,
            **(self.rows if rows is None else rows),
        )

    def pad_rows(self, padded_rows: int) -> Dataset:
        """The same data with the row axis extended by masked rows.

        Padding repeats the first row, so that padded values always lie in the support of
        the observation model (a zero would not, for a positive response).
        """
        missing = padded_rows - self.padded_rows
        if missing < 0:
            raise ValueError(f"Cannot pad {self.padded_rows} rows down to {padded_rows}.")
        if missing == 0:
            return self
        rows = {
            name: np.concatenate([np.asarray(value), np.repeat(np.asarray(value)[:1], missing, axis=0)])
            for name, value in self.rows.items()
        }
        row_mask = np.concatenate([np.asarray(self.row_mask), np.zeros(missing, bool)])
        return self.replace(rows=rows, row_mask=row_mask)

    def tree_flatten_with_keys(self) -> tuple[tuple[Any, ...], tuple[()]]:
        key = jax.tree_util.GetAttrKey
        children = (
            (key("rows"), self.rows),
            (key("row_mask"), self.row_mask),
            (key("column_mask"), self.column_mask),
            (key("constants"), self.constants),
        )
        return children, ()

    @classmethod
    def tree_unflatten(cls, aux: tuple[()], children: tuple[Any, ...]) -> Dataset:
        del aux
        self = object.__new__(cls)  # leaves may be placeholders without a shape
        self.rows, self.row_mask, self.column_mask, self.constants = children
        return self


@dataclass(frozen=True)
class SampleResult:
    """What every method returns for one data set, so that the benchmark treats all alike.

    Attributes:
        sites: constrained named draws, ``{site: (num_draws, *site_shape)}`` (NumPy).
        seconds_compile: tracing and compilation (zero when already compiled).
        seconds_run: everything else, from data to draws, results on the host.
        status: ``ok``, ``warning`` (draws usable, health imperfect) or ``failed``.
        message: why, in words, when the status is not ``ok``.
        health: the method's own diagnostics, e.g. ``{"r_hat": 1.003, "divergences": 0.0}``.
        verdict: of the method's own certificate, where it has one.
    """

    sites: dict[str, np.ndarray]
    seconds_compile: float
    seconds_run: float
    status: str = "ok"
    message: str = ""
    health: dict[str, float] = field(default_factory=dict)
    verdict: str = ""


@runtime_checkable
class Sampler(Protocol):
    """A method under comparison: amortized network, exact sampler, MCMC or variational."""

    name: str

    def sample(self, rng_key: Array, dataset: Dataset, num_draws: int) -> SampleResult:
        """Draw ``num_draws`` times from (an approximation of) the posterior of one data set."""
        ...
