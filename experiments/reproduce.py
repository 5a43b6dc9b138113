"""Compute a table of the paper again: compose the settings, call, write.

    python experiments/reproduce.py table=12 preset=paper

The same as ``icl-bayes reproduce``, which also explains mistakes and runs sweeps.
"""

from __future__ import annotations

import sys

from icl_bayes.cli.environment import set_compilation_cache

if __name__ == "__main__":
    set_compilation_cache()
    from icl_bayes.cli.commands import reproduce
    from icl_bayes.config import compose

    reproduce(compose("reproduce", sys.argv[1:]))
