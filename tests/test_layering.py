"""Imports inside the package point down the list of layers, form no cycle, and keep heavy libraries lazy."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "icl_bayes"

# From top to bottom: a layer may import those after it.
LAYERS = (
    "__main__",
    "cli",
    "config",
    "benchmark",
    "regression",
    "inference",
    "training",
    "baselines",
    "evaluation",
    "nets",
    "flow",
    "datasets",
    "examples",
    "tasks",
    "compiler",
    "precision",
    "provenance",
    "types",
)
# Beyond the order: what a layer must not know although it lies below.
ALSO_FORBIDDEN = {
    "baselines": {"nets"},
    "evaluation": {"nets", "flow", "datasets", "tasks"},  # arrays in, numbers out
    "nets": {"datasets", "tasks"},
}
CONFIG_LAYERS = {"__main__", "cli", "config"}  # the only ones to see a DictConfig
CONFIG_LIBRARIES = {"hydra", "omegaconf"}
HEAVY_LIBRARIES = {"arviz", "matplotlib", "ot", "pandas", "sklearn"}


@dataclass(frozen=True)
class Import:
    """One import statement's target.

    Attributes:
        target: dotted name, resolved to the module where it lies in the package.
        line: line number of the statement.
        on_import: executed when the module is imported (not in a function, not for type checking).
        for_types: inside ``if TYPE_CHECKING``.
    """

    target: str
    line: int
    on_import: bool
    for_types: bool


def module_names(package: Path) -> dict[str, Path]:
    """Dotted name of every module of a package, with its file; scripts among package data are none."""
    names = {}
    for path in sorted(package.rglob("*.py")):
        if any(folder in path.parents for folder in (package / "datasets" / "data", package / "weights")):
            continue
        parts = path.relative_to(package.parent).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


def statements(
    node: ast.AST, in_function: bool = False, for_types: bool = False
) -> Iterator[tuple[ast.stmt, bool, bool]]:
    """All import statements below a node, with where they stand."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child, in_function, for_types
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for part in child.body:
                yield from statements(ast.Module([part], []), in_function, True)
            for part in child.orelse:
                yield from statements(ast.Module([part], []), in_function, for_types)
        else:
            inside = in_function or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from statements(child, inside, for_types)


def read_imports(package: Path) -> dict[str, list[Import]]:
    """Imports of every module of a package, by dotted module name."""
    modules = module_names(package)
    found: dict[str, list[Import]] = {}
    for name, path in modules.items():
        home = name if path.name == "__init__.py" else name.rpartition(".")[0]
        found[name] = []
        for statement, in_function, for_types in statements(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(statement, ast.Import):
                targets = [alias.name for alias in statement.names]
            else:
                base = statement.module or ""
                if statement.level:
                    anchor = home.rsplit(".", statement.level - 1)[0] if statement.level > 1 else home
                    base = f"{anchor}.{base}".rstrip(".")
                full = [f"{base}.{alias.name}" for alias in statement.names]
                targets = [name if name in modules else base for name in full]
                if base == package.name:  # names taken from the root may hide what they load: keep them apart
                    targets = full
            on_import = not in_function and not for_types
            found[name] += [Import(target, statement.lineno, on_import, for_types) for target in targets]
    return found


def layer_of(module: str) -> str:
    """Name of the layer of a module of the package; the root's own is empty."""
    return [*module.split("."), ""][1]


def layering_faults(package: Path) -> list[str]:
    """Sentences about imports inside a package that the layers do not allow."""
    faults = []
    for module, imports in read_imports(package).items():
        layer = layer_of(module)
        if layer and layer not in LAYERS:
            faults.append(f"{module}: not in any layer; give {layer!r} its place in LAYERS")
            continue
        for item in imports:
            if item.target.split(".")[0] != package.name:
                library = item.target.split(".")[0]
                if item.on_import and library in HEAVY_LIBRARIES:
                    faults.append(f"{module}:{item.line} imports {library} when loaded; import it where it is used")
                if library in CONFIG_LIBRARIES and layer not in CONFIG_LAYERS:
                    faults.append(f"{module}:{item.line} imports {library}; only {sorted(CONFIG_LAYERS)} may")
                continue
            below = layer_of(item.target)
            if not layer:
                if item.on_import:
                    faults.append(f"{module}:{item.line} imports {item.target} when loaded; its exports are lazy")
            elif below in {"", "__version__"} or below == layer:
                continue
            elif below not in LAYERS:
                faults.append(f"{module}:{item.line} imports {item.target}; name the module it comes from")
            elif LAYERS.index(below) < LAYERS.index(layer) or below in ALSO_FORBIDDEN.get(layer, ()):
                faults.append(f"{module}:{item.line} ({layer}) imports {item.target} ({below})")
    return faults


def import_cycle(package: Path) -> list[str]:
    """Modules that import each other in a circle, first one repeated; empty if there are none.

    Imports inside functions count: they only postpone the circle. Those for type checking do not.
    """
    graph = {
        module: {item.target for item in imports if item.target != module and not item.for_types}
        for module, imports in read_imports(package).items()
        if layer_of(module)
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1][::-1]
    return []


def test_the_package_keeps_its_layers():
    faults = layering_faults(PACKAGE)
    assert not faults, "\n".join(faults)


def test_the_package_has_no_import_cycle():
    cycle = import_cycle(PACKAGE)
    assert not cycle, " -> ".join(cycle)


def write_package(root: Path, sources: dict[str, str]) -> Path:
    """A package ``sample`` whose files are given; missing ``__init__.py`` files are added."""
    package = root / "sample"
    for name, source in sources.items():
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source, encoding="utf-8")
    for folder in {path.parent for path in package.rglob("*.py")} | {package}:
        (folder / "__init__.py").touch()
    return package


@pytest.mark.parametrize(
    ("name", "source", "fault"),
    [
        (
            "flow/path.py",
            "from sample.nets import decoder",
            r"flow.path:1 \(flow\) imports sample.nets.decoder \(nets\)",
        ),
        ("flow/path.py", "def f():\n    import sample.nets.decoder", r"flow.path:2 \(flow\)"),
        ("flow/path.py", "from ..nets.decoder import decode", r"imports sample.nets.decoder"),
        ("flow/path.py", "if TYPE_CHECKING:\n    from sample.nets.decoder import Decoder", r"flow.path:2"),
        ("nets/decoder.py", "from sample.tasks import Task", r"\(nets\) imports sample.tasks \(tasks\)"),
        ("baselines/vi.py", "from sample import nets", r"\(baselines\) imports sample.nets \(nets\)"),
        ("evaluation/c2st.py", "from sample.tasks import Task", r"\(evaluation\) imports sample.tasks"),
        ("tasks/glm.py", "from sample import load", r"tasks.glm:1 imports sample.load; name the module"),
        ("extra.py", "", r"sample.extra: not in any layer"),
        ("__init__.py", "from sample.nets.decoder import decode", r"sample:1 imports .* its exports are lazy"),
        ("benchmark/report.py", "import pandas as pd", r"report:1 imports pandas when loaded"),
        (
            "benchmark/report.py",
            "try:\n    from matplotlib import pyplot\nexcept ImportError:\n    pass",
            r"matplotlib",
        ),
        ("benchmark/report.py", "class A:\n    import sklearn.ensemble", r"sklearn"),
        ("training/fit.py", "def f():\n    from omegaconf import DictConfig", r"omegaconf; only"),
    ],
)
def test_a_forbidden_import_is_found(tmp_path, name, source, fault):
    package = write_package(tmp_path, {"nets/decoder.py": "", "tasks/glm.py": "", name: source})
    faults = layering_faults(package)
    assert len(faults) == 1, faults
    assert re.search(fault, faults[0]), faults


def test_allowed_imports_are_no_faults(tmp_path):
    package = write_package(
        tmp_path,
        {
            "__init__.py": "def __getattr__(name):\n    from sample.nets.decoder import decode",
            "types.py": "from sample import __version__",
            "nets/decoder.py": "from sample.flow.path import step\nfrom ..types import Dataset",
            "flow/path.py": "from . import bases\nfrom sample.types import Dataset",
            "flow/bases.py": "def f():\n    import pandas",
            "benchmark/run.py": "from sample.nets import decoder\nif TYPE_CHECKING:\n    import matplotlib",
            "cli.py": "import hydra\nfrom sample.benchmark.run import run",
        },
    )
    assert layering_faults(package) == []
    assert import_cycle(package) == []


@pytest.mark.parametrize("back", ["from sample.tasks.base import Task", "def f():\n    from .base import Task"])
def test_a_cycle_is_found(tmp_path, back):
    package = write_package(tmp_path, {"tasks/base.py": "from sample.tasks import glm", "tasks/glm.py": back})
    cycle = import_cycle(package)
    assert cycle[0] == cycle[-1]
    assert set(cycle) == {"sample.tasks.base", "sample.tasks.glm"}


def loaded_after(statement: str) -> set[str]:
    """Top-level libraries present in a fresh interpreter after a statement."""
    code = f"import sys; {statement}; print(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PACKAGE.parent)
    assert result.returncode == 0, result.stderr
    return set(result.stdout.split())


def test_importing_the_package_loads_nothing_else():
    assert not loaded_after("import icl_bayes") & {"jax", "numpy", "flax", "numpyro", *HEAVY_LIBRARIES}


def test_importing_every_module_loads_no_heavy_library():
    modules = [name for name in module_names(PACKAGE) if not name.endswith("__main__")]
    assert not loaded_after(f"import {', '.join(modules)}") & HEAVY_LIBRARIES
