"""Where and with what a number was made."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path


@dataclass(frozen=True)
class Provenance:
    """Machine and code behind a record.

    Attributes:
        hardware: processor, usable cores and, when JAX has one, its accelerator.
        python, jax: versions.
        commit: of the checkout the package runs from, ``+dirty`` appended when tracked files
            differ from it or the package holds files it doesn't track; outside a checkout what the variable
            ``ICL_BAYES_COMMIT`` says, for copies sent to machines that have no history.
    """

    hardware: str
    python: str
    jax: str
    commit: str


def collect_provenance() -> Provenance:
    """The provenance of this process. Never raises; what can't be found out is left empty."""
    try:
        jax_version = metadata.version("jax")
    except metadata.PackageNotFoundError:
        jax_version = ""
    package = Path(__file__).parent
    commit = git_commit(package / "types.py") or os.environ.get("ICL_BAYES_COMMIT", "")
    return Provenance(_hardware(), platform.python_version(), jax_version, commit)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _hardware() -> str:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    parts = [f"{_processor()} ({cores} core{'s' if cores != 1 else ''})"]
    jax = sys.modules.get("jax")  # starting a backend only to name it would cost seconds
    if jax is not None:
        try:
            devices = [device for device in jax.devices() if device.platform != "cpu"]
        except RuntimeError:
            devices = []
        if devices:
            parts.append(f"{len(devices)} x {devices[0].device_kind}")
    return " + ".join(parts)


def git_commit(source: Path) -> str:
    """Short hash of the commit that ``source`` is tracked in, ``+dirty`` when changed; empty outside a checkout.

    Changed means: a tracked file differs, or an untracked one lies beside or below ``source``.
    """

    def git(*arguments: str) -> str | None:
        command = ["git", "-C", str(source.parent), *arguments]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    # An installed copy may lie in an ignored folder of somebody else's checkout.
    if git("ls-files", "--error-unmatch", source.name) is None:
        return ""
    commit = git("rev-parse", "--short=12", "HEAD")
    if not commit:
        return ""
    changed = git("status", "--porcelain", "--untracked-files=no") or git("ls-files", "--others", "--exclude-standard")
    return commit + ("+dirty" if changed else "")
