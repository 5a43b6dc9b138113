"""Tables about users' own data and models, and of equal quality, as Markdown."""

from __future__ import annotations

from statistics import mean
from typing import Any

import numpy as np
from markdown_tables import markdown, read_table
from timing import RESULTS

from icl_bayes.benchmark.aggregate import current
from icl_bayes.benchmark.records import read_records


def equal_quality() -> str:
    """The cheapest effort of either side that comes within 0.03 of the floor, by problem."""
    rows = read_table(RESULTS / "equal_quality.csv")
    lines = []
    for problem in sorted({(row["scenario"], row["rows"]) for row in rows}):
        own = [row for row in rows if (row["scenario"], row["rows"]) == problem]
        network, rival = (next(row for row in own if row["side"] == side) for side in ("network", "parallel HMC"))
        times = [float(row["milliseconds"]) for row in (network, rival)]
        cells = [f"{row['effort']}: {float(row['excess']):+.3f}" for row in (network, rival)]
        marks = ["" if row["reached"] == "True" else " (not within 0.03)" for row in (network, rival)]
        lines.append(
            [
                *problem,
                cells[0] + marks[0],
                f"{times[0]:.0f}",
                cells[1] + marks[1],
                f"{times[1]:.0f}",
                f"{times[1] / times[0]:.1f}",
            ]
        )
    header = ["scenario", "rows", "network", "ms", "parallel HMC", "ms", "ratio of times"]
    return markdown(header, lines)


def eight_schools() -> str:
    """Marginal moments against long NUTS."""
    rows = read_table(RESULTS / "own_model.csv")
    names = ["draws", "verdict", "largest_mean_difference", "largest_sd_difference", "training_minutes"]
    header = ["draws", "verdict", "means differ by at most, sd", "sds differ by at most", "minutes of training"]
    return markdown(header, ([row[name] for name in names] for row in rows))


def regression_quality() -> str:
    """Excess of C2ST over the floor of the draws of both engines, by family, prior, rows and columns."""
    rows = read_table(RESULTS / "regression_quality.csv")
    scored = [row for row in rows if row["reference"] != "failed"]
    groups: list[tuple[str, list[dict[str, Any]]]] = [("all", scored)]
    for name in ("family", "prior", "n", "p"):
        values = sorted({row[name] for row in scored}, key=lambda value: (not value.isdigit(), value.zfill(6)))
        groups += [
            (f"{name} {value}" if value.isdigit() else value, [row for row in scored if row[name] == value])
            for value in values
        ]
    header = ["", "data sets"]
    for side in ("Gaussian", "network", "Gaussian, certified"):
        header += [f"{side}: mean (90 %)", "ms"]
    return markdown([*header, "by NUTS"], (_line(name, own) for name, own in groups))


def regression_scenarios() -> str:
    """The paper's scenarios by the one network and by the networks of single scenarios."""
    rows = read_table(RESULTS / "regression_scenarios.csv")
    header = ["scenario", "data sets", "floor", "one network", "own network", "difference"]
    lines = []
    for scenario in dict.fromkeys(row["scenario"] for row in rows):
        own = [row for row in rows if row["scenario"] == scenario]
        cells = [f"{mean(float(row[name]) for row in own):.3f}" for name in ("floor", "one_network", "own_network")]
        differences = [float(row["one_network"]) - float(row["own_network"]) for row in own]
        error = np.std(differences, ddof=1) / np.sqrt(len(own))
        lines.append([scenario, f"{len(own)}", *cells, f"{mean(differences):+.3f} ± {error:.3f}"])
    return markdown(header, lines)


def regression_tables() -> str:
    """Real tables, certified, by family."""
    rows = read_table(RESULTS / "regression_tables.csv")
    scored = [row for row in rows if row["reference"] != "failed"]
    header = ["family", "tables", "certified, mean (largest)", "by NUTS", "rejected", "median ms", "no reference"]
    lines = []
    for family in ("all", *dict.fromkeys(row["family"] for row in rows)):
        own = [row for row in scored if family in ("all", row["family"])]
        lost = sum(row["reference"] == "failed" and family in ("all", row["family"]) for row in rows)
        if not own:
            continue
        excess = [float(row["excess"]) for row in own]
        lines.append(
            [
                family,
                f"{len({row['table'] for row in own})}",
                f"{mean(excess):+.3f} ({max(excess):+.3f})",
                f"{sum(row['engine'] == 'NUTS' for row in own)}",
                f"{sum(row['verdict'] == 'rejected' for row in own)}",
                f"{np.median([float(row['milliseconds']) for row in own]):.0f}",
                f"{lost}",
            ]
        )
    return markdown(header, lines)


def _line(name: str, rows: list[dict[str, Any]]) -> list[str]:
    cells = [name, f"{len(rows)}"]
    for column in ("gaussian_raw", "network_raw", "gaussian_certified"):
        measured = [row for row in rows if row[column]]  # draws were not certified from the beginning
        values = [float(row[column]) for row in measured]
        cells.append(f"{mean(values):+.3f} ({np.quantile(values, 0.9):+.3f})")
        cells.append(f"{np.median([float(row[f'{column}_ms']) for row in measured]):.0f}")
    return [*cells, f"{sum('reference' in row['gaussian_path'] for row in measured)} of {len(measured)}"]


def regression_speed() -> str:
    """Warm milliseconds of 1000 certified draws, and how many times longer NUTS takes."""
    rows = [row for row in read_table(RESULTS / "regression_speed.csv") if row["certified_ms"]]
    lines = (
        [row["family"], row["verdicts"], row["certified_ms"], row["mcmc_run_ratio"], row["jit_ratio"]] for row in rows
    )
    return markdown(["family", "verdict", "ms", "NUTS, `MCMC.run`", "NUTS, whole in `jit`"], lines)


def warm_start() -> str:
    """NumPyro's chains, cold and from a certified posterior."""
    header = ["family", "cold: ms", "ESS", "warm: ms", "ESS", "time saved", "ESS per second, ratio"]
    names = ["family", "cold_ms", "cold_ess", "warm_ms", "warm_ess", "time_saved", "ess_per_second_ratio"]
    return markdown(header, ([row[name] for name in names] for row in read_table(RESULTS / "warm_start.csv")))


def sbibm() -> str:
    """C2ST of the benchmark of simulation-based inference, by task, of networks and of what certificates let pass."""
    records = current(read_records(RESULTS / "sbibm" / "records.csv"))
    lines = []
    for name in dict.fromkeys(record.scenario for record in records):
        cells = [name, str(len({record.dataset for record in records if record.scenario == name}))]
        for refined in (False, True):
            own = [row for row in records if row.scenario == name and row.variant.endswith("+refine") == refined]
            scores = [row.value for row in own if not row.failed]
            cells.append(f"{mean(scores):.3f}" if scores else "none" if own else "")
            cells.append(f"{np.median([row.seconds_run for row in own]):.3g}" if own else "")
        verdicts = [row.verdict for row in records if row.scenario == name and row.variant.endswith("+refine")]
        lines.append([*cells, ", ".join(dict.fromkeys(verdict or "rejected" for verdict in verdicts))])
    header = ["task", "observations", "network", "s", "refined", "s", "verdict"]
    return markdown(header, lines)
