"""Draws on disk: references computed once, and the draws of scored cells for later plots."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from icl_bayes.benchmark.cases import Case, Method, ReferenceProvider, slug
from icl_bayes.types import SampleResult

_SITE = "site/"


def save_result(path: Path, result: SampleResult) -> None:
    """Write draws and what is known about them to an npz file; the file appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    about = {
        "seconds_compile": float(result.seconds_compile),
        "seconds_run": float(result.seconds_run),
        "status": result.status,
        "message": result.message,
        "health": {name: value if isinstance(value, str) else float(value) for name, value in result.health.items()},
    }
    arrays: dict[str, Any] = {_SITE + name: np.asarray(values) for name, values in result.sites.items()}
    arrays["about"] = np.asarray(json.dumps(about))
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with open(temporary, "wb") as file:
        np.savez(file, **arrays)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def load_result(path: Path) -> SampleResult:
    """Read what `save_result` wrote.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged or was not written by `save_result`.
    """
    try:
        # Opened here, since NumPy leaves the file open when it finds it damaged.
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as stored:
            about = json.loads(str(stored["about"]))
            sites = {name.removeprefix(_SITE): stored[name] for name in stored.files if name.startswith(_SITE)}
    except FileNotFoundError:
        raise
    except (OSError, KeyError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is no readable file of draws ({error}); delete it to compute it again.") from error
    return SampleResult(sites=sites, **about)


def case_slug(case: Case) -> str:
    """File name of a case."""
    return slug(case.family, case.scenario, case.split, case.name, f"n{case.n}", f"p{case.p}", f"s{case.seed}")


def draws_path(out_dir: str | Path, case: Case, method: Method) -> Path:
    """Where the draws of a scored cell are kept."""
    name = slug(method.name, method.variant, method.checkpoint, method.solver)
    return Path(out_dir) / "draws" / case_slug(case) / f"{name}.npz"


def reference_path(out_dir: str | Path, case: Case, provider_name: str = "") -> Path:
    """Where the reference of a case is kept."""
    name = "-".join(part for part in (case_slug(case), slug(provider_name), case.digest) if part)
    return Path(out_dir) / "references" / f"{name}.npz"


class ReferenceStore:
    """References, computed once per case and kept on disk. Failures are not kept.

    Args:
        out_dir: files go to its folder ``references``.
        provider: computes what isn't there yet; an attribute ``name`` becomes part of the file
            name, so that providers don't share files.
    """

    def __init__(self, out_dir: str | Path, provider: ReferenceProvider) -> None:
        self.out_dir = Path(out_dir)
        self.provider = provider

    def path(self, case: Case) -> Path:
        """File of a case's reference."""
        return reference_path(self.out_dir, case, str(getattr(self.provider, "name", "") or ""))

    def get(self, case: Case) -> SampleResult:
        """The reference, from disk or computed now; raises whatever the provider raises."""
        path = self.path(case)
        try:
            return load_result(path)
        except FileNotFoundError:
            pass
        except ValueError:  # damaged: computed again and replaced
            path.unlink()
        result = self.provider(case)
        if result.status != "failed":
            save_result(path, result)
        return result
