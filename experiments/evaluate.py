"""Score methods on test sets: compose the settings, call, write.

    python experiments/evaluate.py scenario=all 'methods=[icl,laplace,nuts]' out=runs/a

The same as ``icl-bayes evaluate``, which also explains mistakes and runs sweeps.
"""

from __future__ import annotations

import sys

from icl_bayes.cli.environment import set_compilation_cache

if __name__ == "__main__":
    set_compilation_cache()
    from icl_bayes.cli.commands import evaluate
    from icl_bayes.config import compose

    evaluate(compose("evaluate", sys.argv[1:]))
