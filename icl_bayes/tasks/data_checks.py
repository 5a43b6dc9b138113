"""What every family asks of a user's data, in words."""

from __future__ import annotations

import warnings

import numpy as np

from icl_bayes.types import AnyArray


def require_finite(name: str, values: AnyArray) -> np.ndarray:
    """``values`` as float32, or a ValueError that says where they are not finite numbers."""
    array = np.asarray(values)
    if array.dtype.kind not in "fiub":
        raise ValueError(
            f"{name} must be numeric; received dtype {array.dtype}. Encode text columns as numbers first "
            "(for example one indicator column per level)."
        )
    bad = ~np.isfinite(array)
    if bad.any():
        where = np.argwhere(bad)[:3].tolist()
        raise ValueError(
            f"{name} has {int(bad.sum())} missing or infinite value(s), first at {where}. "
            "Drop or impute these rows; a posterior is never computed from them."
        )
    with np.errstate(over="ignore"):
        single = array.astype(np.float32)
    beyond = ~np.isfinite(single)
    if beyond.any():
        raise ValueError(
            f"{name} has {int(beyond.sum())} value(s) beyond the range of single precision (3e38), first at "
            f"{np.argwhere(beyond)[:3].tolist()}. Rescale the column, or mark missing values as NaN and drop them."
        )
    return single


def warn(message: str) -> None:
    """A warning to the user of the library, attributed to their call."""
    warnings.warn(message, UserWarning, stacklevel=4)
