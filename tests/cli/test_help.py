"""Help comes at once and says what there is; unknown commands are answered."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import icl_bayes
from icl_bayes.cli import environment, main
from icl_bayes.cli.help import SUMMARIES
from icl_bayes.config import choices, groups_of
from icl_bayes.config.files import COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_every_command_explains_itself(command, flag, capsys):
    assert main([command, "nonsense=1", flag]) == 0
    text = capsys.readouterr().out
    assert SUMMARIES[command] in text
    assert f"\n  icl-bayes {command}" in text  # at least one example
    for group in groups_of(command):
        assert f"{group} " in text
        assert ", ".join(choices(group)) in text


@pytest.mark.parametrize("arguments", [[], ["-h"], ["--help"], ["help"]])
def test_overview(arguments, capsys):
    assert main(arguments) == 0
    text = capsys.readouterr().out
    assert all(f"  {command} " in text for command in COMMANDS)


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == icl_bayes.__version__


def test_an_unknown_command_lists_the_commands(capsys):
    assert main(["trian"]) == 2
    assert "no command 'trian'. Did you mean 'train'? Commands: train, sample" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", ["", "'train', '--help'", "'evaluate', '-h'"])
def test_help_loads_nothing_that_takes_time(arguments):
    code = (
        f"import sys; from icl_bayes.cli import main; code = main([{arguments}]); "
        "slow = {'jax', 'numpy', 'flax', 'numpyro', 'sklearn', 'matplotlib', 'rich'} & set(sys.modules); "
        "sys.exit(f'loaded {slow}' if slow else code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_console_script_is_this_one():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"icl-bayes": "icl_bayes.cli:run"}


def test_an_error_without_a_message_of_ours_keeps_its_traceback(monkeypatch):
    from icl_bayes.cli import commands

    def broken(settings):
        raise ZeroDivisionError("a mistake in the program")

    monkeypatch.setitem(commands.COMMANDS, "demo", broken)
    with pytest.raises(ZeroDivisionError):
        main(["demo"])

    def refused(settings):
        raise ValueError("the input is wrong")

    monkeypatch.setitem(commands.COMMANDS, "demo", refused)
    assert main(["demo"]) == 2
    with pytest.raises(ValueError, match="the input is wrong"):
        main(["demo", "--traceback"])

    def stopped(settings):
        raise KeyboardInterrupt

    monkeypatch.setitem(commands.COMMANDS, "demo", stopped)
    assert main(["demo"]) == 130


class TestEnvironment:
    """The compilation cache is on by default, in a place of the user's, and an own setting is respected."""

    @pytest.fixture(autouse=True)
    def no_settings(self, monkeypatch):
        for name in ("JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"):
            monkeypatch.delenv(name, raising=False)
        for name in ("ICL_BAYES_CACHE", "XDG_CACHE_HOME"):
            monkeypatch.delenv(name, raising=False)

    def test_default(self, monkeypatch, tmp_path):
        import os

        monkeypatch.setenv("HOME", str(tmp_path))
        environment.set_compilation_cache()
        assert os.environ["JAX_COMPILATION_CACHE_DIR"] == str(tmp_path / ".cache" / "icl_bayes" / "jax")
        assert os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] == "0"

    @pytest.mark.parametrize("name", ["ICL_BAYES_CACHE", "XDG_CACHE_HOME"])
    def test_other_places(self, name, monkeypatch, tmp_path):
        monkeypatch.setenv(name, str(tmp_path))
        expected = tmp_path if name == "ICL_BAYES_CACHE" else tmp_path / "icl_bayes"
        assert environment.cache_root() == expected

    def test_own_setting(self, monkeypatch):
        import os

        monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "elsewhere")
        monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "9")
        environment.set_compilation_cache()
        assert os.environ["JAX_COMPILATION_CACHE_DIR"] == "elsewhere"
        assert os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] == "9"

    def test_hosts_are_numbered_together(self, monkeypatch):
        monkeypatch.setenv("JAX_NUM_PROCESSES", "2")
        monkeypatch.delenv("JAX_PROCESS_ID", raising=False)
        with pytest.raises(ValueError, match="JAX_NUM_PROCESSES and JAX_PROCESS_ID belong together"):
            environment.join_hosts()
