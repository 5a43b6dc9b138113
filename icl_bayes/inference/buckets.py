"""Padded lengths: many sizes of data sets, few compilations."""

from __future__ import annotations

ROW_BUCKETS = (16, 32, 64, 128, 256, 512)
"""Data sets are padded to these lengths, beyond them to multiples of the last."""


def padded_length(num_rows: int) -> int:
    """The bucket a data set of ``num_rows`` rows is padded to."""
    for bucket in ROW_BUCKETS:
        if num_rows <= bucket:
            return bucket
    return -(-num_rows // ROW_BUCKETS[-1]) * ROW_BUCKETS[-1]
