"""``python -m icl_bayes`` is ``icl-bayes``."""

from icl_bayes.cli import run

if __name__ == "__main__":
    run()
