"""Precision of matrix products, which accelerators lower by default.

On a GPU the product of two float32 matrices keeps ten bits of their mantissas unless told otherwise (TF32). A network
bears that; a log density, a Cholesky factor or a whitening does not, and nothing would say so.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import jax

P = ParamSpec("P")
R = TypeVar("R")

MATMUL_PRECISIONS = {"float32": "float32", "tensorfloat32": "tensorfloat32", "bfloat16": "BF16_BF16_F32"}
"""What training may use in the network, by JAX's names; sums are float32 in all."""


def full_precision(function: Callable[P, R]) -> Callable[P, R]:
    """``function`` with float32 matrix products, also inside of what is traced for other precisions."""

    @wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        with jax.default_matmul_precision("float32"):
            return function(*args, **kwargs)

    return wrapped
