"""Scores computed beside the sampling, in processes of their own."""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Self

import numpy as np

from icl_bayes.evaluation import two_sample

_ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL")}


class ScoringError(RuntimeError):
    """A set of draws could not be scored; the message says why."""


class _WorkerDied(ScoringError):
    """The process ended in the middle of a job."""


class _Worker:
    """One scoring process, used by one thread at a time."""

    def __init__(self) -> None:
        script = Path(__file__).with_name("scoring_worker.py")
        self.process = subprocess.Popen(
            # -P keeps this directory off the worker's import path, where our file names would
            # shadow other modules.
            [sys.executable, "-P", str(script), str(two_sample.__file__)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **_ONE_THREAD},
            # Ctrl-C reaches the whole foreground group; the caller decides what a worker does then.
            start_new_session=True,
        )

    def score(self, job: dict) -> dict[str, float]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            pickle.dump(job, self.process.stdin)
            self.process.stdin.flush()
            kind, answer = pickle.load(self.process.stdout)
        except (EOFError, BrokenPipeError, pickle.UnpicklingError) as error:
            code = self.process.wait()
            raise _WorkerDied(
                f"The scoring process ended with code {code} (negative: killed by that signal, "
                "for example when memory ran out)."
            ) from error
        if kind == "error":
            raise ScoringError(answer)
        return answer

    def close(self) -> None:
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):  # it may hold a job that the process no longer reads
                    pipe.close()
        self.process.wait()


class ScorePool:
    """Runs `two_sample_scores` in a few processes that never import JAX.

    Args:
        workers: number of processes, started when first needed; zero scores in the calling
            thread instead.
    """

    def __init__(self, workers: int) -> None:
        if workers < 0:
            raise ValueError(f"workers must be zero or more; received {workers}.")
        self.workers = workers
        self._idle: queue.SimpleQueue[_Worker | None] = queue.SimpleQueue()
        self._started: list[_Worker] = []
        self._closing = False
        self._threads = ThreadPoolExecutor(max(1, workers), thread_name_prefix="scoring") if workers else None
        for _ in range(workers):
            self._idle.put(None)

    def submit(
        self,
        draws: np.ndarray,
        reference: np.ndarray,
        *,
        seed: int,
        metrics: tuple[str, ...],
        components: tuple[tuple[int, ...], ...] = (),
    ) -> Future[dict[str, float]]:
        """Scores of ``draws`` against ``reference`` by name, or a `ScoringError` in the future."""
        job = {"draws": draws, "reference": reference, "seed": seed, "metrics": metrics, "components": components}
        if self._threads is not None:
            return self._threads.submit(self._score, job)
        future: Future[dict[str, float]] = Future()
        try:
            future.set_result(two_sample.two_sample_scores(**job))
        except Exception as error:  # as in a worker: whatever fails is recorded
            future.set_exception(ScoringError(f"{type(error).__name__}: {error}"))
        return future

    def _score(self, job: dict) -> dict[str, float]:
        worker = self._idle.get()
        try:
            if worker is None:
                worker = self._start()
            try:
                return worker.score(job)
            except _WorkerDied:
                if self._closing:
                    raise
                worker = self._start()
                return worker.score(job)  # once more, alone: a second death is the job's own
        except _WorkerDied:
            worker = None
            raise
        finally:
            self._idle.put(worker)

    def _start(self) -> _Worker:
        worker = _Worker()
        self._started.append(worker)
        return worker

    def close(self, *, now: bool = False) -> None:
        """End the processes, after their queue is empty or, with ``now``, at once."""
        if self._threads is None:
            return
        self._closing = now
        if now:
            for worker in self._started:
                worker.process.kill()
        self._threads.shutdown(wait=True, cancel_futures=now)
        for worker in self._started:
            worker.close()
        self._threads = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close(now=kind is not None)
