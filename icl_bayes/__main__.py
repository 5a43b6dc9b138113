"""``python -m icl_bayes`` is ``icl-bayes``."""

from icl_bayes.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
