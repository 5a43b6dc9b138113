"""Train a network: compose the settings, call, write.

    python experiments/train.py scenario=5 experiment=exact_start

The same as ``icl-bayes train``, which also explains mistakes and runs sweeps.
"""

from __future__ import annotations

import sys

from icl_bayes.cli.environment import set_compilation_cache

if __name__ == "__main__":
    set_compilation_cache()
    from icl_bayes.cli.commands import train
    from icl_bayes.config import compose

    train(compose("train", sys.argv[1:]))
