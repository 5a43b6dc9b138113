"""Train the networks that are shipped, one per scenario; an interrupted run goes on where it stopped.

    python experiments/train_shipped_networks.py [--scenarios 1 5] [--out runs/shipped] [--variant informed]

Each run directory then holds ``metrics.csv``, ``training.png`` and ``network``; copy ``network`` to
``icl_bayes/weights/glm/SCENARIO`` (``.../SCENARIO/VARIANT`` for another variant) to ship it.
"""

from __future__ import annotations

import argparse
import sys

from icl_bayes.cli.main import main as icl_bayes

STEPS = {1: 1600, 2: 1600, 3: 3200, 4: 3200, 5: 4000, 6: 1600, 7: 4000}
"""Gradient steps of the shipped `informed` networks; other variants take those of their experiment."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenarios", type=int, nargs="+", choices=sorted(STEPS), default=sorted(STEPS))
    parser.add_argument("--variant", default="informed", help="a name of configs/experiment")
    parser.add_argument("--out", default="runs/shipped")
    options = parser.parse_args()
    for scenario in options.scenarios:
        overrides = [
            f"experiment={options.variant}",
            f"scenario={scenario}",
            f"out={options.out}/glm-{scenario}-{options.variant}",
        ]
        if options.variant == "informed":
            overrides.append(f"training.num_steps={STEPS[scenario]}")
        code = icl_bayes(["train", *overrides])
        if code:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
