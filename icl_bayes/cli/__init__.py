"""The console script ``icl-bayes``."""

from icl_bayes.cli.main import main, run

__all__ = ["main", "run"]
