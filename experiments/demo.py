"""Networks and their rivals on real data: compose the settings, call, write.

    python experiments/demo.py out=runs/look

The same as ``icl-bayes demo``, which also explains mistakes and runs sweeps.
"""

from __future__ import annotations

import sys

from icl_bayes.cli.environment import set_compilation_cache

if __name__ == "__main__":
    set_compilation_cache()
    from icl_bayes.cli.commands import demo
    from icl_bayes.config import compose

    demo(compose("demo", sys.argv[1:]))
