"""Test the calibration of networks: compose the settings, call, write.

    python experiments/calibrate.py family=glm scenario=all out=runs/calibration

The same as ``icl-bayes calibrate``, which also explains mistakes.
"""

from __future__ import annotations

import sys

from icl_bayes.cli.environment import set_compilation_cache

if __name__ == "__main__":
    set_compilation_cache()
    from icl_bayes.cli.commands import calibrate
    from icl_bayes.config import compose

    calibrate(compose("calibrate", sys.argv[1:]))
