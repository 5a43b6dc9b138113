"""What a network may read of a data set."""

from __future__ import annotations

from typing import NamedTuple

from icl_bayes.types import AnyArray, Array


class Features(NamedTuple):
    """What a network may read of a data set.

    Attributes:
        rows: ``(n, d)``, one feature vector per row.
        context: ``(k,)``, features of the whole data set: prior hyper-parameters, log n.
        row_mask: ``(n,)`` boolean.
    """

    rows: Array
    context: Array
    row_mask: AnyArray
