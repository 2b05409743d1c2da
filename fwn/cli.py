"""What every program shares: flags, one-line errors, exit codes.

Exit codes: 0 success, 1 an error (said in one line on stderr), 2 a usage error, 3 finished but some inputs were left
out, 130 interrupted.
"""

import errno
import inspect
import math
import os
import re
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from absl import app, flags, logging

from fwn.errors import UserError
from fwn.shipped import experiment_file
from fwn.terminal import progress, say

flags.disclaim_key_flags()  # what is defined here is a flag of the program that asks for it, and in its --help

__all__ = ["flags_alone", "low_temperature", "progress", "run", "say", "temperatures"]


def run(main: Callable[[list[str]], int | None]) -> None:
    """Parses the flags, runs main(positional arguments), exits with its code; errors a user can cause are one line."""
    program = f"python -m {_module()}"
    sys.unraisablehook = _unraisable
    warnings.filterwarnings("ignore", message="coroutine .* was never awaited")
    logging.set_verbosity(logging.FATAL)  # the libraries also log what they raise, with tracebacks
    if "jax" in sys.modules:
        keep_compiled()
    app.run(lambda argv: _guarded(main, argv[1:], program), flags_parser=lambda argv: _parse(argv, program))


def keep_compiled() -> None:
    """Has jax keep what it compiles in ~/.cache/fwn: a second start of a program then compiles nothing.

    JAX_COMPILATION_CACHE_DIR names another folder ("" for none); where none can be written, nothing is kept.
    """
    config = sys.modules["jax"].config
    if config.values["jax_compilation_cache_dir"] is not None:
        return
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fwn" / "compiled"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return
    if os.access(folder, os.W_OK):
        config.update("jax_compilation_cache_dir", str(folder))


def flags_alone(args: list[str]) -> None:
    """Of a program that takes no arguments: raises UserError on one."""
    if args:
        raise UserError(f"unexpected argument {args[0]!r}: all settings are flags (--help lists them)")


def low_temperature() -> flags.FlagHolder[float | None]:
    """Defines --low_temperature, of programs that sample."""
    return flags.DEFINE_float(
        "low_temperature",
        None,
        "Of a model with autoregression over blocks: the noise of the predicted bands, times --temperature; less is "
        "more voiced. By default 0.9.",
        lower_bound=0.0,
    )


def temperatures(*values: float) -> None:
    """Of programs that sample: raises UserError on a --temperature that no noise can have."""
    for value in values:
        if not 0 <= value < math.inf:
            raise UserError(f"--temperature={value}: must be a finite number, 0 or more")


def _parse(argv: list[str], program: str) -> list[str]:
    """Flags by absl; --help prints the program's docstring and flags and succeeds; a wrong flag is one line, exit 2."""
    if {"--help", "-help", "-h", "--helpshort", "--helpfull"} & set(argv[1:]):
        print(f"{(sys.modules['__main__'].__doc__ or '').strip()}\n\nflags:\n{flags.FLAGS.main_module_help()}")
        sys.exit(0)
    try:
        args = flags.FLAGS(_named(argv))
        if "config" in flags.FLAGS:
            getattr(flags.FLAGS.config, "is_locked", None)  # where ml_collections says that the file is missing
        return args
    except (flags.Error, UserError) as error:
        message = " ".join(str(error).split())
    except Exception as error:  # what ml_collections passes on: its own for an unknown field, and a config file's
        message = _config_error(error)
    sys.exit(_fail(program, f"{message} (--help lists the flags)", 2))


def _named(argv: list[str]) -> list[str]:
    """The arguments, with the file in place of the name of an experiment that comes with fwn: --config=lite."""
    named = list(argv)
    for i, (before, arg) in enumerate(zip(["", *argv], argv, strict=False)):
        if re.match("--?config=", arg):
            flag, _, given = arg.partition("=")
            named[i] = f"{flag}={experiment_file(given)}"
        elif before in ("--config", "-config"):
            named[i] = str(experiment_file(arg))
    return named


def _config_error(error: Exception) -> str:
    """A wrong --config in one line: an unknown field and its nearest, or what its Python file raised, and where."""
    *_, last = traceback.extract_tb(error.__traceback__)
    inner: Any = error
    while isinstance(inner, Exception) and inner.args:
        inner = inner.args[0]
    name, _, hint = str(inner).partition("\n")
    if isinstance(error, OSError):
        return f"--config: {str(error).splitlines()[-1].partition('] ')[2] or error}"
    if "ml_collections" not in last.filename:
        return f"--config: {type(error).__name__}: {name} ({last.filename}, line {last.lineno})"
    if not isinstance(error, KeyError | AttributeError):
        return f"--config: {' '.join(str(error).split())}"
    near = re.search(r'mean "([^"]*)"', hint)
    return f"--config: no such field: {name.strip()}" + (f"; did you mean {near[1]!r}?" if near else "")


def _unraisable(unraisable: Any) -> None:
    """What Python cannot raise is said, but for what orbax leaves undone after a failure that is said already."""
    if str(unraisable.exc_value) != "Event loop is closed" and not inspect.iscoroutine(unraisable.object):
        sys.__unraisablehook__(unraisable)


def _guarded(main: Callable[[list[str]], int | None], args: list[str], program: str) -> None:
    try:
        sys.exit(main(args) or 0)
    except UserError as error:
        sys.exit(_fail(program, str(error), 1))
    except KeyboardInterrupt:
        sys.exit(_fail(program, "interrupted", 128 + signal.SIGINT))
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "RESOURCE_EXHAUSTED" not in str(error):  # XLA's word for it
            raise
        what = " ".join(str(error).split())[:200]
        sys.exit(_fail(program, f"out of memory ({what}); use a smaller batch, or shorter crops or utterances", 1))
    except OSError as error:
        if error.errno is None:
            raise
        what = os.strerror(error.errno) + (f": {error.filename}" if error.filename else "")
        hint = " (free some space and run the same command again)" if error.errno == errno.ENOSPC else ""
        sys.exit(_fail(program, what + hint, 1))


def _fail(program: str, message: str, code: int) -> int:
    print(f"{program}: {message}", file=sys.stderr)
    return code


def _module() -> str:
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    return spec.name.removesuffix(".__main__") if spec else os.path.basename(sys.argv[0])
