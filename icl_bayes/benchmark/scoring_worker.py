"""A scoring process: reads jobs from its standard input, writes scores to its standard output.

Run as a script by `icl_bayes.benchmark.scoring`, never imported. It loads the metrics module
by its path, so that a worker imports neither the package nor JAX (which would claim memory on
an accelerator) and no ``__main__`` of the calling program is run again.
"""

from __future__ import annotations

import importlib.util
import os
import pickle
import sys
from types import ModuleType

# POT imports every array library it finds, JAX included, unless told not to.
_NUMPY_ONLY = ("JAX", "PYTORCH", "TENSORFLOW", "CUPY")


def load_metrics(path: str) -> ModuleType:
    """The module of two-sample metrics, outside its package."""
    os.environ.update({f"POT_BACKEND_DISABLE_{library}": "1" for library in _NUMPY_ONLY})
    spec = importlib.util.spec_from_file_location("two_sample", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"Cannot load the metrics from {path}.")
    module = importlib.util.module_from_spec(spec)
    sys.modules["two_sample"] = module  # dataclasses look their module up by name
    spec.loader.exec_module(module)
    return module


def serve(metrics_path: str) -> None:
    """Answer jobs until the input ends."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    # Whatever a library prints must not end up between two answers.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    metrics = load_metrics(metrics_path)
    while True:
        try:
            job = pickle.load(sys.stdin.buffer)
        except EOFError:  # the caller has finished, or was killed
            return
        try:
            answer = ("scores", metrics.two_sample_scores(**job))
        except Exception as error:  # whatever fails is the caller's to record
            answer = ("error", f"{type(error).__name__}: {error}")
        pickle.dump(answer, answers)
        answers.flush()


if __name__ == "__main__":
    serve(sys.argv[1])
