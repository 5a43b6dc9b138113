"""The tables of README.md and docs, written from the recorded files: between `<!-- NAME -->` and `<!-- /NAME -->`.

python benchmarks/result_pages.py            # writes them
python benchmarks/result_pages.py --check    # fails if a page holds others
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
from collections import Counter
from pathlib import Path

import certificate_tables
import own_tables
import quality_tables
import speed_tables
from timing import RESULTS

ROOT = RESULTS.parents[1]
BLOCK = re.compile(r"<!-- (?P<name>[^/].*?) -->\n(?P<table>.*?)<!-- /(?P=name) -->", re.DOTALL)
FIGURES = {
    RESULTS / "frontier-glm-5" / "figures" / "Quality_and_time_against_n_GLM_5_synthetic_data.png": ROOT
    / "docs"
    / "results"
    / "Quality_and_time_against_n_GLM_5_synthetic_data.png",
}
"""Where recorded figures are shown: documentation is built from files below docs alone."""


def tables() -> dict[str, str]:
    """All tables by the names of their blocks."""
    return {
        "headline": quality_tables.headline(),
        **quality_tables.by_family(),
        "evidence": quality_tables.evidence(),
        "frontier": quality_tables.frontier(),
        "certified": certificate_tables.certified("certified"),
        "certificates": certificate_tables.in_distribution(),
        "certificates by steps": certificate_tables.by_steps(),
        "calibration": certificate_tables.calibration(),
        "broken networks": certificate_tables.broken(),
        "out of distribution": certificate_tables.certified("out-of-distribution"),
        "passed as good": certificate_tables.passed_as_good(),
        "speed": speed_tables.speed(),
        "speed on a GPU": speed_tables.speed_on_gpu(),
        "cold start": speed_tables.cold_start(),
        "simulation": speed_tables.simulation_cost(),
        "solvers": speed_tables.solver_error(),
        "factor analysis, speed": speed_tables.speed_by_scenario("fa"),
        "mixtures, speed": speed_tables.speed_by_scenario("gmm"),
        "equal quality": own_tables.equal_quality(),
        "eight schools": own_tables.eight_schools(),
        "regressions": own_tables.regression_quality(),
        "regressions, scenarios": own_tables.regression_scenarios(),
        "regressions, tables": own_tables.regression_tables(),
        "regressions, speed": own_tables.regression_speed(),
        "warm start": own_tables.warm_start(),
        "sbibm": own_tables.sbibm(),
    }


def filled(text: str, tables: dict[str, str]) -> str:
    """A page with the tables of its blocks."""
    return BLOCK.sub(
        lambda block: f"<!-- {block['name']} -->\n{tables[block['name']]}\n<!-- /{block['name']} -->", text
    )


def check_blocks(pages: dict[Path, str], tables: dict[str, str]) -> None:
    """Every table has exactly one block on all pages, every block a table.

    Raises:
        ValueError: what is missing, unknown or there more than once.
    """
    found = Counter(block["name"] for text in pages.values() for block in BLOCK.finditer(text))
    wrong = {name: found[name] for name in sorted(found.keys() | tables) if found[name] != 1 or name not in tables}
    if wrong:
        raise ValueError(f"Blocks of tables, how often they are on a page: {wrong}; known and once is expected.")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a page holds other tables")
    options = parser.parse_args()
    pages = {
        path: path.read_text(encoding="utf-8") for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    }
    made = tables()
    check_blocks(pages, made)
    stale = {path: new for path, old in pages.items() if (new := filled(old, made)) != old}
    figures = [
        (made, shown)
        for made, shown in FIGURES.items()
        if not shown.exists() or shown.read_bytes() != made.read_bytes()
    ]
    if options.check:
        names = [str(path.relative_to(ROOT)) for path in [*stale, *(shown for _, shown in figures)]]
        if names:
            print(
                f"Not what the recorded files say: {', '.join(names)}; run python benchmarks/result_pages.py.",
                file=sys.stderr,
            )
        return int(bool(names))
    for path, new in stale.items():
        path.write_text(new, encoding="utf-8")
    for source, shown in figures:
        shutil.copyfile(source, shown)
    return 0


if __name__ == "__main__":
    sys.exit(main())
