"""What has to be set before JAX is imported."""

from __future__ import annotations

import os
from pathlib import Path


def cache_root() -> Path:
    """Directory of what may be recomputed: ``$ICL_BAYES_CACHE``, else ``icl_bayes`` in the user's cache directory."""
    own = os.environ.get("ICL_BAYES_CACHE")
    if own:
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").expanduser() / "icl_bayes"


def set_compilation_cache() -> None:
    """Keep compiled programs between runs; whatever the environment says already stays as it is.

    Child processes (jobs of a sweep) inherit the variables.
    """
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache_root() / "jax"))
    # The programs here are small and many: each takes well under the usual limit of a second.
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")


def join_hosts() -> None:
    """Connect this process with those on the other hosts (``jax.distributed``).

    Clusters that JAX knows (SLURM, Open MPI, Kubernetes, TPU) need nothing else. Elsewhere three variables say who
    is who: ``JAX_COORDINATOR_ADDRESS`` (host:port of the first), ``JAX_NUM_PROCESSES`` and ``JAX_PROCESS_ID``.

    Raises:
        ValueError: if one of the last two is given without the other, or is no number.
    """
    import jax

    count, index = os.environ.get("JAX_NUM_PROCESSES"), os.environ.get("JAX_PROCESS_ID")
    if (count is None) != (index is None):
        raise ValueError(f"JAX_NUM_PROCESSES and JAX_PROCESS_ID belong together; received {count!r} and {index!r}.")
    if count is None or index is None:
        jax.distributed.initialize()
        return
    jax.distributed.initialize(num_processes=int(count), process_id=int(index))
