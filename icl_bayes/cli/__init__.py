"""The console script ``icl-bayes``."""

from icl_bayes.cli.main import main

__all__ = ["main"]
