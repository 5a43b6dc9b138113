"""Promises about the project's files: versions agree, pins are portable, nothing names a machine."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.markers import Marker, default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import icl_bayes

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PIN = re.compile(r"(?P<name>[A-Za-z0-9._-]+)==(?P<version>[A-Za-z0-9._]+)(?: ; (?P<marker>[^;#]+))?")
HOME_PATH = re.compile(r"(?<![\w.:/-])(?:/(?:home|Users)/[a-z]\w*|/ro{2}t/|[A-Z]:\\Users\\)")


def read_pins(text: str) -> list[tuple[str, str, Marker | None]]:
    """Name, version and marker of every line; anything but an exact pin is an error."""
    pins = []
    for line in text.splitlines():
        match = PIN.fullmatch(line)
        assert match, f"requirements.txt may hold lines like `name==1.0 ; marker` only; found {line!r}"
        marker = Marker(match["marker"]) if match["marker"] else None
        pins.append((canonicalize_name(match["name"]), match["version"], marker))
    return pins


def pins_for(python: str) -> dict[str, str]:
    """The pins that hold on Linux with one Python version; two for one package are an error."""
    environment = {
        **default_environment(),
        "python_version": python,
        "python_full_version": f"{python}.1",
        "sys_platform": "linux",
        "platform_system": "Linux",
    }
    chosen: dict[str, str] = {}
    for name, version, marker in read_pins((ROOT / "requirements.txt").read_text(encoding="utf-8")):
        if marker is None or marker.evaluate(environment):
            assert name not in chosen, f"{name} is pinned twice for Python {python}"
            chosen[name] = version
    return chosen


def test_version_agrees_with_the_package():
    assert PROJECT["version"] == icl_bayes.__version__
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## {re.escape(icl_bayes.__version__)} \(\d{{4}}-\d{{2}}-\d{{2}}\)$", changelog, re.MULTILINE)


def test_licence_is_the_declared_one():
    assert PROJECT["license"] == "Apache-2.0"
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_pins_satisfy_the_declared_bounds(python):
    pins = pins_for(python)
    extras = PROJECT["optional-dependencies"]
    for text in PROJECT["dependencies"] + extras["dev"] + extras["slurm"]:
        requirement = Requirement(text)
        if requirement.marker and not requirement.marker.evaluate({"python_version": python}):
            continue
        name = canonicalize_name(requirement.name)
        assert name in pins, f"{text} has no pin for Python {python}; run `make lock`"
        assert requirement.specifier.contains(pins[name]), f"{name} is pinned to {pins[name]}, declared as {text}"


@pytest.mark.parametrize(
    "line",
    [
        "--index-url https://example.org/simple",
        "jax @ file:///tmp/jax.whl",
        "jax==0.10.2 --hash=sha256:00",
        "jax>=0.10",
        "-e .",
        "# jax",
    ],
)
def test_a_line_that_is_no_plain_pin_is_found(line):
    with pytest.raises(AssertionError, match="may hold lines like"):
        read_pins(f"numpy==2.4.6\n{line}\n")


def tracked_files() -> list[Path]:
    """Files under version control; the test is skipped outside a checkout."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    return [ROOT / name for name in listing.decode().split("\0") if name]


def test_no_tracked_file_names_a_home_directory():
    found = []
    for path in tracked_files():
        data = path.read_bytes() if path.is_file() else b""
        if b"\0" not in data[:8000]:
            text = data.decode("utf-8", errors="replace")
            found += [f"{path.relative_to(ROOT)}: {match[0]}" for match in HOME_PATH.finditer(text)]
    assert not found, found


def test_home_directories_are_recognised():
    user = "alice"
    for text in (
        f"open('/home/{user}/data.csv')",
        f"PATH=/Users/{user}/bin",
        "/ro" + "ot/.cache",
        f"C:\\Users\\{user}",
    ):
        assert HOME_PATH.search(text), text
    for text in ("https://example.org/home/page", "docs/home/index", "chroot/lib", "~/.cache"):
        assert not HOME_PATH.search(text), text


def test_public_names_are_lazy_and_a_wrong_one_lists_the_choices():
    from icl_bayes.types import Dataset

    assert icl_bayes.Dataset is Dataset
    assert {"load", "Dataset", "make_task"} <= set(dir(icl_bayes))
    with pytest.raises(AttributeError, match=r"no attribute 'lod'.*load"):
        _ = icl_bayes.lod


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
class TestMakefile:
    """The Makefile's choices, without installing anything."""

    def make(self, *arguments: str, path: Path) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": f"{path}:/usr/bin:/bin", "HOME": str(path)}
        command = [str(shutil.which("make")), "--silent", "--directory", str(ROOT), *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True)

    def script(self, path: Path, body: str) -> None:
        path.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
        path.chmod(0o755)

    def test_candidates_that_fail_or_are_too_old_are_passed_over(self, tmp_path):
        self.script(tmp_path / "python3.13", "exit 127")
        self.script(tmp_path / "python3.12", "echo /too/old; exit 1")
        self.script(tmp_path / "python3.11", f'exec "{sys.executable}" "$@"')
        result = self.make("which-python", path=tmp_path)
        assert result.returncode == 0, result.stderr
        assert Path(result.stdout.strip()).resolve() == Path(sys._base_executable).resolve()

    def test_a_newer_interpreter_comes_first(self, tmp_path):
        for name in ("python3", "python3.11", "python3.12"):
            self.script(tmp_path / name, f"echo {name}")
        assert self.make("which-python", path=tmp_path).stdout.strip() in {"python3.12", "/usr/bin/python3.13"}
        assert self.make("which-python", f"PYTHON={tmp_path}/python3", path=tmp_path).stdout.strip() == "python3"

    def test_no_interpreter_is_a_clear_error(self, tmp_path):
        result = self.make("which-python", "PYTHON=no-such-python", path=tmp_path)
        assert result.returncode != 0
        assert "Python 3.11 or newer" in result.stderr

    def test_targets_run_what_they_advertise(self, tmp_path):
        assert "icl-bayes demo" in self.make("--dry-run", "demo", path=tmp_path).stdout
        assert "-m pytest" in self.make("--dry-run", "test", path=tmp_path).stdout
        targets = re.findall(r"^make (\w+)", self.make("help", path=tmp_path).stdout, re.MULTILINE)
        assert targets == ["demo", "test"]


def test_the_tables_of_all_pages_are_those_of_the_recorded_files() -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "result_pages.py"), "--check"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def test_links_of_the_readme_lead_to_files_and_headings() -> None:
    """Those within the documentation are checked when it is built."""
    links = re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert len(links) > 5
    for path, anchor in links:
        page = ROOT / (path or "README.md")
        assert page.exists(), path
        headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE) if anchor else []
        slugs = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
        assert not anchor or anchor in slugs, f"{path}#{anchor}"


def last_stage(script, kind: str, scenario: int) -> list[str]:
    """What the last of several runs changes, and of more than two the one before it that it goes on from."""
    stages = script.LONGER.get((kind, scenario))
    if not stages:
        return []
    if len(stages) == 1:
        return stages[0]  # where the first run was is not the same in all checkpoints
    family, variant = kind.split("/")
    before = "-longer" if len(stages) == 2 else f"-longer-{len(stages) - 1}"
    return [*stages[-1], f"training.start_from=runs/shipped/{family}-{scenario}-{variant}{before}/network"]


def test_the_commands_of_shipped_networks_are_those_they_were_trained_by() -> None:
    """What the script changes in an experiment is what the checkpoint says."""
    path = ROOT / "experiments" / "train_shipped_networks.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    compared = 0
    for kind, by_scenario in script.CHANGES.items():
        family, variant = kind.split("/")
        for scenario, overrides in by_scenario.items():
            own = ROOT / "icl_bayes" / "weights" / family / str(scenario)
            checkpoint = own / variant / "checkpoint.json"
            config = json.loads((checkpoint if checkpoint.exists() else own / "checkpoint.json").read_text())["config"]
            last_run = [*overrides, *last_stage(script, kind, scenario)]
            settings = dict(override.split("=", 1) for override in last_run)  # of two values the later one counts
            for name, value in settings.items():
                if "." in name:
                    section, key = name.split(".")
                    assert config[section][key] == yaml.safe_load(value), f"{kind} {scenario}: {name}={value}"
                    compared += 1
    assert compared > 30
