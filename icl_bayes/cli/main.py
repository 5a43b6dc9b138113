"""Arguments, dispatch, and errors in words. Whatever takes time to import is imported when it is needed."""

from __future__ import annotations

import contextlib
import difflib
import gc
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from icl_bayes.cli.arguments import LINES, line_overrides
from icl_bayes.cli.environment import set_compilation_cache
from icl_bayes.cli.help import SUMMARIES, command_help, overview

USAGE_ERROR = 2


def run() -> NoReturn:
    """What ``icl-bayes`` starts: :func:`main` as a process of its own.

    ``sample`` and ``glm`` end within seconds. Collecting garbage meanwhile and taking everything apart at the end would
    be a quarter of them, so they do neither.
    """
    if sys.argv[1:2] not in (["sample"], ["glm"]):
        raise SystemExit(main())
    gc.disable()
    code = main()
    with contextlib.suppress(BrokenPipeError):  # the reader has gone
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``icl-bayes``; returns the exit code: 0, 1 for a run that failed, 2 for a mistake in the input."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help", "help"):
        print(overview())
        return 0
    if given[0] == "--version":
        from icl_bayes import __version__

        print(__version__)
        return 0
    command, rest = given[0], given[1:]
    if command not in SUMMARIES:
        close = difflib.get_close_matches(command, SUMMARIES, n=1)
        hint = f"Did you mean {close[0]!r}? " if close else ""
        return _fail(f"There is no command {command!r}. {hint}Commands: {', '.join(SUMMARIES)}.")
    if any(one in ("-h", "--help") for one in rest):
        print(command_help(command))
        return 0
    set_compilation_cache()
    show_traceback = "--traceback" in rest or os.environ.get("ICL_BAYES_TRACEBACK") == "1"
    rest = [one for one in rest if one != "--traceback"]
    try:
        return _dispatch(command, rest)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader, say `head`, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if show_traceback or not _is_input_error(error):
            raise
        return _fail(str(error))


def _fail(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return USAGE_ERROR


def _is_input_error(error: Exception) -> bool:
    """Whether an error says all there is to know in its message: wrong input, files or set-up."""
    from icl_bayes.datasets import TableUnavailableError

    return isinstance(error, ValueError | OSError | ImportError | TableUnavailableError)


def _dispatch(command: str, rest: list[str]) -> int:
    from icl_bayes.cli import commands
    from icl_bayes.config import ConfigError, compose

    if command in LINES:
        rest = line_overrides(command, rest)
    show = "--cfg" in rest
    multirun = any(one in ("-m", "--multirun") for one in rest)
    overrides = [one for one in rest if one not in ("--cfg", "-m", "--multirun")]
    unknown = [one for one in overrides if one.startswith("-")]
    if unknown:
        raise ConfigError(f"Unknown option {unknown[0]!r}; see icl-bayes {command} --help.")
    if multirun:
        from icl_bayes.cli.sweep import run_sweep

        return run_sweep(command, overrides)
    if show:
        from omegaconf import OmegaConf

        from icl_bayes.config import compose_raw

        print(OmegaConf.to_yaml(compose_raw(command, overrides)), end="")
        return 0
    settings = compose(command, overrides)
    return commands.exit_code(command, commands.COMMANDS[command](settings))
