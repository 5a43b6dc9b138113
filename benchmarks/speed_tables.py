"""Tables of speed, from recorded files, as Markdown."""

from __future__ import annotations

from markdown_tables import markdown, read_table
from timing import RESULTS


def speed_by_scenario(family: str) -> str:
    """Milliseconds for 1000 draws, one column per scenario of a family and number of rows."""
    (path,) = RESULTS.glob(f"sampling_speed-{family}-python*.csv")
    rows = read_table(path)
    problems = list(dict.fromkeys((row["scenario"], row["rows"]) for row in rows))
    found = {(row["scenario"], row["rows"], row["method"]): f"{1e3 * float(row['seconds']):.1f}" for row in rows}
    methods = dict.fromkeys(row["method"] for row in rows)
    lines = ([method, *(found.get((*problem, method), "") for problem in problems)] for method in methods)
    return markdown(["milliseconds", *(f"{scenario}, n = {num_rows}" for scenario, num_rows in problems)], lines)


def speed() -> str:
    """The recorded runs side by side, one per version of Python (and so of JAX)."""
    runs = {
        path.stem.split("python")[1]: read_table(path) for path in sorted(RESULTS.glob("sampling_speed-python*.csv"))
    }
    by_method: dict[tuple[str, ...], dict[str, list[str]]] = {}
    for version, rows in runs.items():
        for row in rows:
            measured = [f"{1e3 * float(row['seconds']):.1f}", f"{int(row['draws_per_second']):,}"]
            by_method.setdefault((row["scenario"], row["datasets"], row["method"]), {})[version] = measured
    header = ["scenario", "data sets", "method"]
    for version, rows in runs.items():
        header += [f"milliseconds, Python {version}, JAX {rows[0]['jax']}", "draws per second"]
    return markdown(
        header,
        (
            [*key, *(cell for version in runs for cell in measured.get(version, ["", ""]))]
            for key, measured in by_method.items()
        ),
    )


def speed_on_gpu() -> str:
    """Draws per second for many data sets at once on one GPU, and how many times as many the network makes."""
    (path,) = RESULTS.glob("sampling_speed-gpu-python*.csv")
    rows = {(row["scenario"], row["method"]): row for row in read_table(path)}
    lines = []
    for scenario in dict.fromkeys(scenario for scenario, _ in rows):
        network, nuts = (int(rows[scenario, method]["draws_per_second"]) for method in ("network", "nuts jit vmap"))
        lines.append([scenario, f"{network:,}", f"{nuts:,}", f"{network / nuts:.0f}"])
    return markdown(["scenario", "network, draws per second", "NUTS in one jit, vmap", "ratio"], lines)


def cold_start() -> str:
    rows = read_table(RESULTS / "cold_start.csv")
    lines = ([row["command"], row["cold_seconds"], row["warm_seconds"]] for row in rows)
    return markdown(["command", "seconds, empty cache", "seconds, warm cache"], lines)


def simulation_cost() -> str:
    rows = read_table(RESULTS / "simulation_cost.csv")
    names = ["scenario", "padded_rows", "simulate_ms", "gradient_ms", "ratio"]
    return markdown(
        ["scenario", "rows", "simulation, ms a step", "gradient, ms a step", "ratio"],
        ([row[name] for name in names] for row in rows),
    )


def solver_error() -> str:
    """By solver and network: evaluations, the median error in standard deviations, total variation if known."""
    rows = read_table(RESULTS / "solver_error.csv")
    networks = list(dict.fromkeys(row["network"] for row in rows))
    found = {(row["solver"], row["steps"], row["network"]): f"{float(row['median_error']):.3f}" for row in rows}
    far = {(row["solver"], row["steps"], row["network"]): row["total_variation"] for row in rows}
    judged = [network for network in networks if any(far[key] for key in far if key[2] == network)]
    efforts = {(row["solver"], row["steps"]): row["evaluations"] for row in rows}
    lines = (
        [
            f"{solver}, {steps} steps",
            efforts[solver, steps],
            *(found.get((solver, steps, network), "") for network in networks),
            *(far.get((solver, steps, network), "") for network in judged),
        ]
        for solver, steps in sorted(efforts, key=lambda effort: (effort[0], int(effort[1])))
    )
    header = ["solver", "evaluations per draw", *networks, *(f"{network}, total variation" for network in judged)]
    return markdown(header, lines)
