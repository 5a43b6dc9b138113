"""Score every method on the test sets of the paper's GLM table, synthetic and real, with the published values beside.

    python experiments/paper_tables.py [--preset quick|paper] [--out runs/paper] [OVERRIDE ...]

Running it again does only what is missing. Overrides are those of ``icl-bayes reproduce``, for
instance ``'methods=[icl,laplace]'`` or ``scenario=5``.
"""

from __future__ import annotations

import argparse
import sys

from icl_bayes.cli.main import main as icl_bayes

TABLES = (12,)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=("quick", "paper"), default="quick")
    parser.add_argument("--out", default="runs/paper")
    options, overrides = parser.parse_known_args()
    for table in TABLES:
        out = f"out={options.out}/table-{table}-{options.preset}"
        code = icl_bayes(["reproduce", f"table={table}", f"preset={options.preset}", out, *overrides])
        if code:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
