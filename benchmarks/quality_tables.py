"""Tables of quality against references and rivals, from recorded files, as Markdown."""

from __future__ import annotations

import re
from collections.abc import Callable
from statistics import mean, stdev
from typing import Any, NamedTuple

from markdown_tables import markdown, read_table
from timing import RESULTS

from icl_bayes.benchmark.aggregate import Summary, current, summarize
from icl_bayes.benchmark.cases import method_label
from icl_bayes.benchmark.published import mean_beside
from icl_bayes.benchmark.records import REFERENCE_METHOD, Record, read_records

FRONTIER = RESULTS / "frontier-glm-5" / "records.csv"
SCENARIOS = [str(number) for number in range(1, 8)]
SHOWN = {
    ("icl", "informed"): "network (`informed`, 2 to 4 evaluations)",
    ("vi_fixed_point", ""): "its base alone (`vi_fixed_point`)",
    ("laplace", ""): "Laplace approximation",
    ("icl", "gaussian"): "network without likelihood (`gaussian`, 4 midpoint steps)",
}

FACTOR_SCENARIOS = [str(number) for number in range(1, 7)]
FACTOR_SHOWN = {
    ("icl", "informed"): "network (`informed`, six evaluations in scenario 2, five in 4)",
    ("icl", "informed+polish@5"): "the same, then 5 moves of every draw",
    ("icl", "exact_start"): "network without likelihood (`exact_start`, 12 evaluations)",
    ("parallel_hmc", "prior start"): "5 moves of parallel HMC from the prior",
    ("importance_moments", ""): "moments of an importance sample, base of 4 (`importance_moments`)",
    ("importance_warped", ""): "the same in coordinates with a peak, base of 2 (`importance_warped`)",
    ("vi_fixed_point", ""): "closest Gaussian",
    ("laplace", ""): "Laplace approximation",
}

MIXTURE_SCENARIOS = [str(number) for number in range(1, 5)]
MIXTURE_SHOWN = {
    ("icl", "informed"): "network (`informed`, 8 evaluations, in scenario 1 nine)",
    ("icl", "informed+polish@5"): "the same, then 5 moves of every draw",
    ("laplace", ""): "Laplace approximation",
}

FAMILIES = {
    "glm": ("regression, 1 to 7", "table-12", SCENARIOS),
    "fa": ("factor analysis, 1 to 6", "table-13", FACTOR_SCENARIOS),
    "gmm": ("Gaussian mixtures, 1 to 4", "table-14", MIXTURE_SCENARIOS),
}
"""Their labels, records and scenarios."""

EFA_SCENARIOS = ["1", "2", "3"]
EFA_SHOWN = {
    ("icl", "informed"): "network (`informed`, 2 evaluations)",
    ("icl", "informed+polish@5"): "the same, then 5 moves of every draw",
    ("parallel_hmc", ""): "2 moves of parallel HMC from Laplace draws",
    ("vi_fixed_point", ""): "its base alone (`vi_fixed_point`)",
    ("laplace", ""): "Laplace approximation",
}

FAR_APART_SHOWN = {
    ("icl", "informed"): "network (`informed`, 8 evaluations)",
    ("icl", "informed+polish@5"): "the same, then 5 moves of every draw",
    ("parallel_hmc", "em start"): "80 moves of parallel HMC from EM modes",
    ("parallel_hmc", "prior start"): "20 moves of parallel HMC from the prior",
    ("laplace", ""): "Laplace approximation",
}

NETWORK = ("icl", "informed", "")
NETWORKS = (NETWORK, ("icl", "exact_start", ""))
"""What is compared with rivals: of a scenario's networks the first there is."""
CONVERGED = "num_steps=20000"
RIVALS = {
    ("vi_diagonal", "", ""): "diagonal VI",
    ("vi_diagonal", "", CONVERGED): "diagonal VI, 20000 steps",
    ("vi_full", "", ""): "full-rank VI",
    ("vi_full", "", CONVERGED): "full-rank VI, 20000 steps",
    ("vi_structured", "", ""): "structured VI",
    ("vi_structured", "", CONVERGED): "structured VI, 20000 steps",
    ("vi_iaf", "", ""): "IAF VI",
    ("vi_iaf", "", CONVERGED): "IAF VI, 20000 steps",
    ("nuts", "", ""): "NUTS, one chain",
    ("parallel_hmc", "", "moves=2"): "parallel HMC, 2 moves",
    ("parallel_hmc", "variational start", "moves=2"): "parallel HMC, 2 moves from the base",
}
UNLABELLED_RIVALS = {
    ("vi_diagonal", "", ""): "diagonal VI",
    ("vi_full", "", ""): "full-rank VI",
    ("vi_structured", "", ""): "structured VI",
    ("vi_iaf", "", ""): "IAF VI",
    ("laplace", "", ""): "Laplace approximation",
    ("importance_moments", "", ""): "moments of an importance sample",
    ("importance_warped", "", ""): "the same in coordinates with a peak",
    ("parallel_hmc", "prior start", "moves=5"): "parallel HMC, 5 moves from the prior",
    ("parallel_hmc", "em start", "moves=5"): "parallel HMC, 5 moves from EM modes",
    ("parallel_hmc", "em start", "moves=20"): "parallel HMC, 20 moves from EM modes",
}
"""Of factor analysis and mixtures."""
SPLITS = {"synthetic": "simulated", "real": "real"}


Who = tuple[str, str, str]
"""Method, variant and effort."""


class Difference(NamedTuple):
    """Mean of `network - rival` over the data sets that both have a score on, and its standard error."""

    mean: float
    error: float
    count: int

    def __str__(self) -> str:
        return f"{self.mean:+.3f} ± {self.error:.3f}"


def differences(
    records: list[Record], split: str, metric: str, rival: Who, scenarios: list[str] = SCENARIOS
) -> dict[str, Difference]:
    """By scenario, of the network against a rival on the same data sets."""
    scores: dict[tuple[str, str], dict[Who, float]] = {}
    for row in records:
        if row.split == split and row.metric == metric:
            solver = "" if row.method == "icl" else row.solver
            scores.setdefault((row.scenario, row.dataset), {})[row.method, row.variant, solver] = row.value
    found = {}
    for scenario in scenarios:
        of_scenario = [one for (name, _), one in scores.items() if name == scenario]
        network = next((who for who in NETWORKS if any(who in one for one in of_scenario)), NETWORK)
        values = [one[network] - one[rival] for one in of_scenario if {network, rival} <= set(one)]
        if len(values) > 1:
            found[scenario] = Difference(mean(values), stdev(values) / len(values) ** 0.5, len(values))
    return found


def rivals(records: list[Record], metric: str, shown: dict[Who, str] = RIVALS, scenarios: list[str] = SCENARIOS) -> str:
    """Network minus rival in one metric, simulated and real data; what favours the rival by two errors is bold."""
    lines = []
    for split in ("synthetic", "real"):
        for rival, label in shown.items():
            found = differences(records, split, metric, rival, scenarios)
            cells = []
            for scenario in scenarios:
                one = found.get(scenario)
                text = str(one) if one else ""
                cells.append(f"**{text}**" if one and one.mean > 2.0 * one.error else text)
            counts = sorted({one.count for one in found.values()})
            if found:
                sets = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else f"{counts[0]}"
                lines.append([f"{label}, {SPLITS[split]}", *cells, sets])
    return markdown(["network minus", *scenarios, "data sets"], lines)


def quality(
    records: list[Record],
    summaries: list[Summary],
    split: str,
    shown: dict[tuple[str, str], str] = SHOWN,
    scenarios: list[str] = SCENARIOS,
) -> str:
    """C2ST of every method with its number of data sets, floor and standard error of the mean over scenarios.

    Published values stand below the first of the methods shown.
    """
    lines = []
    for (method, variant), label in shown.items():
        rows = [row for row in summaries if (row.method, row.variant, row.split) == (method, variant, split)]
        cells = {row.scenario: row for row in rows if row.metric == "c2st"}
        if not cells:
            continue

        def line(name: str, pick: Callable[[Summary], str], last: str, cells: Any = cells) -> list[str]:
            return [name, *(pick(cells[s]) if s in cells else "" for s in scenarios), last]

        def average(of: Callable[[Summary], float], cells: Any = cells) -> float:
            return sum(of(row) for row in cells.values()) / len(cells)

        error = sum(row.error**2 for row in cells.values()) ** 0.5 / len(cells)
        lines.append(line(label, lambda row: f"{row.mean:.3f}", f"{average(lambda row: row.mean):.3f} ± {error:.3f}"))
        lines.append(line("floor", lambda row: f"{row.floor:.3f}", f"{average(lambda row: row.floor):.3f}"))
        lines.append(line("data sets", lambda row: f"{row.num_scored}", ""))
        if (method, variant) == next(iter(shown)):
            known = [row.published for row in cells.values() if row.published is not None]
            overall = f"{sum(known) / len(known):.3f}" if len(known) == len(scenarios) else ""
            if known:
                lines.append(line("published", lambda row: f"{row.published:.3f}" if row.published else "", overall))
        if method == "vi_fixed_point" and shown is SHOWN:
            found = differences(records, split, "c2st", (method, variant, ""))
            lines.append(["network minus base, same sets", *(str(found.get(s, "")) for s in SCENARIOS), ""])
    return markdown([SPLITS[split], *scenarios, "mean"], lines)


def headline() -> str:
    """One line per family: raw and certified draws of its shipped networks, published scores, and milliseconds."""
    certified = current(read_records(RESULTS / "certified" / "records.csv"))
    costs = {row["scenario"]: row for row in read_table(RESULTS / "certificates.csv")}
    lines = []
    for family, (label, table, scenarios) in FAMILIES.items():
        summaries = summarize(current(read_records(RESULTS / table / "records.csv")))
        scores = {
            (row.scenario, row.variant, row.split): row
            for row in summaries
            if (row.method, row.metric) == ("icl", "c2st")
        }
        cells = [label]
        for split in SPLITS:
            ours = [
                next(scores[key] for _, variant, _ in NETWORKS if (key := (scenario, variant, split)) in scores)
                for scenario in scenarios
            ]
            published = mean_beside(family, scenarios, split, "icl", "", "c2st")
            cells += [f"{mean(row.mean for row in ours):.3f}", f"{mean(row.floor for row in ours):.3f}"]
            cells += [f"{published:.3f}"]
        refined = [
            row
            for row in summarize(certified)
            if row.family == family and row.metric == "c2st" and row.variant.endswith("+refine")
        ]
        cells.append(f"{max(row.excess for row in refined):+.3f}")
        raw = [float(costs[f"{family}/{scenario}"]["raw_ms"]) for scenario in scenarios]
        ratios = [float(costs[f"{family}/{scenario}"]["certifying_over_raw"]) for scenario in scenarios]
        every = [one * ratio for one, ratio in zip(raw, ratios, strict=True)]
        cells += [f"{min(times):.0f} to {max(times):.0f}" for times in (raw, every)]
        lines.append(cells)
    header = ["mean C2ST of scenarios", *(text for name in SPLITS.values() for text in (name, "floor", "published"))]
    return markdown(
        [*header, "certified, largest excess over the floor", "1000 draws, ms", "1000 certified draws, ms"], lines
    )


def training(pattern: str) -> str:
    """One line per recorded training run that was checked: its first and its last check of held-out C2ST."""
    lines = []
    for path in sorted((RESULTS / "training").glob(pattern)):
        checks = [row for row in read_table(path) if row["held_out_c2st"] != "nan"]
        if not checks:
            continue
        first, last = checks[0], checks[-1]
        line = [re.sub("^[a-z]+", "", path.stem.split("-")[0])]
        for row in (first, last):
            line += [f"{float(row['held_out_c2st']):.3f}", f"{float(row['seconds']) / 60:.1f} ({row['step']})"]
        lines.append([*line, f"{float(first['laplace_c2st']):.3f}", f"{float(first['gaussian_c2st']):.3f}"])
    minutes = "minutes (steps)"
    return markdown(["scenario", "first check", minutes, "at the end", minutes, "Laplace", "closest Gaussian"], lines)


def evidence() -> str:
    """Error, coverage and k-hat of the evidence estimates, by scenario."""
    rows = read_table(RESULTS / "evidence.csv")
    lines = []
    for scenario in dict.fromkeys(row["scenario"] for row in rows):
        own = [row for row in rows if row["scenario"] == scenario]
        errors = [abs(float(row["log_evidence"]) - float(row["exact"])) for row in own]
        inside = mean(error < 1.96 * float(row["standard_error"]) for error, row in zip(errors, own, strict=True))
        reliable = mean(float(row["khat"]) < 0.7 for row in own)
        good = mean(row["verdict"] == "good" for row in own)
        line = [scenario, f"{len(own)}", f"{mean(errors):.4f}", f"{max(errors):.4f}"]
        lines.append([*line, f"{inside:.0%}", f"{reliable:.0%}", f"{good:.0%}"])
    header = [
        "scenario",
        "data sets",
        "mean absolute error, nats",
        "largest",
        "95 % intervals that cover",
        "k-hat < 0.7",
    ]
    return markdown([*header, "`good`"], lines)


def frontier() -> str:
    """C2ST and milliseconds of every method and effort, by the number of rows; the floor first."""
    rows = [row for row in summarize(current(read_records(FRONTIER))) if row.metric == "c2st"]
    sizes = sorted({row.n for row in rows})
    by_method: dict[str, dict[int, Summary]] = {}
    for row in rows:
        by_method.setdefault(method_label(row.method, row.variant, row.solver), {})[row.n] = row
    order = sorted(by_method, key=lambda name: re.sub(r"\d+", lambda number: number[0].zfill(4), name))
    order.sort(key=lambda name: not name.startswith(REFERENCE_METHOD))
    lines = []
    for name in order:
        found = by_method[name]
        cells = (f"{found[n].mean:.3f} ± {found[n].error:.3f}, {1e3 * found[n].seconds_run:.1f}" for n in sizes)
        lines.append([name, *cells])
    return markdown(["C2ST, milliseconds", *(f"n = {n}" for n in sizes)], lines)


def by_family() -> dict[str, str]:
    """Tables of quality, of rivals and of training, by the names of their blocks."""
    regression = current(read_records(RESULTS / "table-12" / "records.csv"))
    factor = current(read_records(RESULTS / "table-13" / "records.csv"))
    mixture = current(read_records(RESULTS / "table-14" / "records.csv"))
    loadings = current(read_records(RESULTS / "efa" / "records.csv"))
    far_apart = current(read_records(RESULTS / "gmm-5" / "records.csv"))
    found = {
        "mixture of five": quality(far_apart, summarize(far_apart), "synthetic", FAR_APART_SHOWN, ["5"]),
        "loadings, training": training("efa?.csv"),
        "factor analysis, training": training("fa?.csv"),
        "factor analysis, training without likelihood": training("fa?-exact_start.csv"),
        "training": training("glm?.csv"),
        "training laplace": training("glm?-laplace.csv"),
        "training without likelihood": training("glm?-gaussian.csv"),
    }
    for prefix, records, shown, scenarios in (
        ("", regression, SHOWN, SCENARIOS),
        ("factor analysis, ", factor, FACTOR_SHOWN, FACTOR_SCENARIOS),
        ("mixtures, ", mixture, MIXTURE_SHOWN, MIXTURE_SCENARIOS),
        ("loadings, ", loadings, EFA_SHOWN, EFA_SCENARIOS),
    ):
        for split, name in SPLITS.items():
            found[prefix + name] = quality(records, summarize(records), split, shown, scenarios)
    for prefix, records, shown, scenarios in (
        ("", regression, RIVALS, SCENARIOS),
        ("factor analysis, ", factor, UNLABELLED_RIVALS, FACTOR_SCENARIOS),
        ("mixtures, ", mixture, UNLABELLED_RIVALS, MIXTURE_SCENARIOS),
    ):
        for metric in ("mmd", "w2"):
            found[prefix + metric.upper()] = rivals(records, metric, shown, scenarios)
    return found
