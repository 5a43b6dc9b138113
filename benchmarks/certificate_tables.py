"""Tables about certificates, as Markdown: what repair does to quality and at what cost, in and out of distribution."""

from __future__ import annotations

from collections import Counter
from statistics import mean, median, stdev

from markdown_tables import markdown, read_table
from timing import RESULTS

from icl_bayes.benchmark.aggregate import current
from icl_bayes.benchmark.calibration import MEASURED
from icl_bayes.benchmark.records import REFERENCE_METHOD, Record, read_records

EXCESS = 0.05
FAMILIES = ("glm", "fa", "gmm", "efa")
"""In the order of the tables."""


def _excess(rows: list[Record]) -> str:
    """Mean C2ST above the floor, of the same data sets, with its standard error."""
    values = [row.value - row.floor for row in rows]
    error = f" ± {stdev(values) / len(values) ** 0.5:.3f}" if len(values) > 1 else ""
    return f"{mean(values):+.3f}{error}"


def _verdicts(rows: list[Record]) -> str:
    counts = Counter(row.verdict for row in rows)
    return ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())


def certified(name: str) -> str:
    """C2ST minus floor, raw and refined, by problem; verdicts; and milliseconds of both.

    Args:
        name: directory of records under ``results``.
    """
    records = [row for row in current(read_records(RESULTS / name / "records.csv")) if row.method != REFERENCE_METHOD]
    lines = []
    problems = dict.fromkeys((row.family, row.scenario, row.split) for row in records)
    for problem in sorted(problems, key=lambda one: (FAMILIES.index(one[0]), one[1])):
        own = [row for row in records if (row.family, row.scenario, row.split) == problem]
        tried = [row for row in own if row.variant.endswith("+refine")]
        refined = [row for row in tried if row.metric == "c2st" and not row.failed]
        raw = [row for row in own if row.metric == "c2st" and "+" not in row.variant and not row.failed]
        if not refined or not raw:
            continue
        seconds = [median(row.seconds_run for row in rows) for rows in (raw, refined)]
        lines.append(
            [
                f"{problem[0]}/{problem[1]} {problem[2]}",
                f"{len(refined)} of {len({row.dataset for row in tried})}",
                _excess(raw),
                _excess(refined),
                _verdicts(list({row.dataset: row for row in tried}.values())),
                f"{1e3 * seconds[0]:.0f}",
                f"{1e3 * seconds[1]:.0f}",
            ]
        )
    header = ["problem", "scored", "raw", "refined", "verdicts", "raw, ms", "refined, ms"]
    return markdown(header, lines)


def in_distribution() -> str:
    """k-hat, verdicts and cost over many simulated data sets."""
    kinds = ("good", "resampled", "polished", "refined", "rejected")
    lines = [
        [
            row["scenario"],
            row["datasets"],
            f"{float(row['khat_below_limit']):.0%}",
            row["median_total_variation"],
            *(f"{float(row[kind]):.0%}" for kind in kinds),
            row["raw_ms"],
            row["certifying_over_raw"],
        ]
        for row in sorted(read_table(RESULTS / "certificates.csv"), key=lambda row: row["scenario"])
    ]
    header = ["scenario", "data sets", "k-hat < 0.7", "median total variation", *(f"`{kind}`" for kind in kinds)]
    return markdown([*header, "raw sampling, ms", "certifying over raw"], lines)


def by_steps() -> str:
    """k-hat and total variation of raw draws by steps of the solver."""
    rows = sorted(
        read_table(RESULTS / "certificate_steps.csv"),
        key=lambda row: (row["scenario"], int(row["solver"].rpartition("-")[2])),
    )
    columns = ("scenario", "solver", "datasets", "khat_below_limit", "median_khat", "mean_total_variation")
    lines = [
        [f"{float(row[name]):.0%}" if name == "khat_below_limit" else row[name] for name in columns] for row in rows
    ]
    return markdown(["scenario", "solver", "data sets", "k-hat < 0.7", "median k-hat", "mean total variation"], lines)


def broken() -> str:
    """Of networks broken on purpose: how far draws are off, whether it is noticed, and what is left after repair."""
    groups: dict[tuple[str, str], list[dict[str, str]]] = {}
    for row in read_table(RESULTS / "broken_networks.csv"):
        groups.setdefault((row["scenario"], row["broken"]), []).append(row)
    lines = []
    for (scenario, kind), rows in groups.items():
        off = [row for row in rows if float(row["raw_excess"]) > EXCESS]
        accepted = [row for row in rows if row["refined_verdict"] != "rejected"]
        lines.append(
            [
                scenario,
                kind,
                f"{mean(float(row['raw_excess']) for row in rows):+.3f}",
                f"{sum(row['raw_verdict'] != 'good' for row in off)} of {len(off)}",
                f"{mean(float(row['refined_excess']) for row in accepted):+.3f}" if accepted else "",
                f"{len(rows) - len(accepted)} of {len(rows)}",
            ]
        )
    header = [
        "scenario",
        "network",
        "raw C2ST - 0.5",
        f"noticed of those above {EXCESS}",
        "refined C2ST - 0.5",
        "rejected",
    ]
    return markdown(header, lines)


def passed_as_good() -> str:
    """Of data of other conditions: how many raw draws are called good, and how far from the reference these are."""
    rows = read_table(RESULTS / "passed_as_good.csv")
    groups: dict[tuple[str, str], list[dict[str, str]]] = {}
    for row in rows:
        groups.setdefault((row["scenario"].partition("/")[0], row["shift"]), []).append(row)
    lines = []
    for (family, shift), own in [*groups.items(), (("all", "all"), rows)]:
        scores = [float(row["raw_c2st"]) for row in own if row["raw_c2st"]]
        good = sum(row["verdict"] == "good" for row in own)
        shown = [f"{mean(scores):.3f}", f"{max(scores):.3f}"] if scores else ["", ""]
        lines.append([family, shift, f"{len(own)}", f"{good}", f"{len(scores)}", *shown])
    return markdown(["family", "shift", "data sets", "`good`", "scored", "their C2ST, mean", "largest"], lines)


def calibration() -> str:
    """Which tests over simulated data sets fail, by scenario and kind of draws; the control beside it."""
    rows = read_table(RESULTS / "calibration" / "calibration.csv")
    lines = []
    for scenario in sorted({f"{row['family']}/{row['scenario']}" for row in rows}):
        own = [row for row in rows if f"{row['family']}/{row['scenario']}" == scenario]
        for draws in dict.fromkeys(row["draws"] for row in own if float(row["narrow"]) == 1.0):
            tests = [row for row in own if row["draws"] == draws and row["test"] not in MEASURED]
            cells = [_failures([row for row in tests if float(row["narrow"]) == factor]) for factor in (1.0, 0.9)]
            plain = [row for row in tests if float(row["narrow"]) == 1.0]
            smallest = min(float(row["p_value"]) for row in plain)
            failed = sorted({row["test"] for row in plain if float(row["p_value"]) < float(row["limit"])})
            cells[0] += f" ({', '.join(failed)})" if failed else ""
            measured = {
                row["test"]: row
                for row in own
                if (row["draws"], float(row["narrow"])) == (draws, 1.0) and row["test"] in MEASURED
            }
            shown = evidence = ""
            if "divergence" in measured:
                shown = f"{float(measured['divergence']['value']):.4f} ± {float(measured['divergence']['error']):.4f}"
            if "evidence below" in measured:
                below, above = (float(measured[f"evidence {side}"]["value"]) for side in ("below", "above"))
                evidence = f"{below:.3f} to {above:.3f}"
            found = [tests[0]["num_datasets"], cells[0], f"{smallest:.2g}", shown, evidence, cells[1]]
            lines.append([scenario, draws, *found])
    header = [
        "scenario",
        "draws",
        "data sets",
        "tests failed",
        "smallest p",
        "divergence, nats",
        "mean log evidence",
        "control, tests failed",
    ]
    return markdown(header, lines)


def _failures(rows: list[dict[str, str]]) -> str:
    if not rows:
        return ""
    return f"{sum(float(row['p_value']) < float(row['limit']) for row in rows)} of {len(rows)}"
