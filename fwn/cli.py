"""Shared by all programs: flag parsing, one-line errors, exit codes.

Exit codes: 0 success, 1 error (one line on stderr), 2 usage error, 3 finished but some inputs were left out, 4 saved
and stopped by config.max_seconds, 5 the doctor found something to look at, 6 the doctor found an error, 130
interrupted.
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
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from absl import app, flags, logging

from fwn import posix
from fwn.errors import UserError, short
from fwn.shipped import VOICE, experiment_file
from fwn.terminal import printable, progress, say
from fwn.xla import cache

T = TypeVar("T")
LEFT_OUT = 3  # exit code of a program that finished without some of its inputs
TIME_IS_UP = 4  # of a run that config.max_seconds stopped
WARNINGS = 5  # of fwn.doctor, if the worst finding is a warning
ERRORS = 6  # of fwn.doctor, if it found an error

started = ""  # "fwn train", if the program was started by that command (fwn/__main__.py)

flags.disclaim_key_flags()  # flags defined here are flags of the program that asks for them

__all__ = ["ckpt", "each_readable", "flags_alone", "progress", "run", "sampling", "say", "say_left_out", "speaker"]
__all__ += ["step", "temperatures"]


def run(main: Callable[[list[str]], int | None]) -> None:
    """Parses the flags, runs main(positional arguments), exits with its code. User errors are printed as one line."""
    program = _program()
    sys.unraisablehook = _unraisable
    warnings.filterwarnings("ignore", message="coroutine .* was never awaited")
    logging.set_verbosity(logging.FATAL)  # libraries also log the errors that they raise, with tracebacks
    if "jax" in sys.modules:
        cache.enable()
    app.run(lambda argv: _guarded(main, argv[1:], program), flags_parser=lambda argv: _parse(argv, program))


def flags_alone(args: list[str]) -> None:
    """Raises UserError if there are positional arguments, for programs that take none."""
    if args:
        raise UserError(f"unexpected argument {args[0]!r}: all settings are flags (--help lists them)")


def each_readable(items: Iterable[tuple[Any, ...]], read: Callable[..., T]) -> tuple[list[T], list[str]]:
    """(read(*item) of the items that can be read, why not of the others). Raises UserError if none can."""
    done: list[T] = []
    refused = []
    for item in items:
        try:
            done.append(read(*item))
        except UserError as error:
            refused.append(str(error))
    if not done:
        raise UserError("\n  ".join(refused))
    return done, refused


def say_left_out(refused: list[str]) -> None:
    """Says which inputs were left out, after which the exit code is LEFT_OUT."""
    for message in refused:
        say(f"left out {message}")


def ckpt() -> flags.FlagHolder[str | None]:
    """Defines --ckpt for programs that run the voice in the box if no other model is given (shipped.voice)."""
    return flags.DEFINE_string(
        "ckpt",
        None,
        f"Workdir of fwn.train, or output folder of fwn.convert or fwn.export. By default voices/{VOICE}.",
    )


def step() -> flags.FlagHolder[int | None]:
    """Defines --step for programs that run models."""
    return flags.DEFINE_integer(
        "step",
        None,
        "Step of the checkpoint. By default the best one by held-out nats/sample (for a student, by loss).",
    )


def sampling() -> Callable[[], dict[str, Any]]:
    """Defines the flags of programs that sample which fwn.load takes, and returns a function of their values."""
    low = flags.DEFINE_float(
        "low_temperature",
        None,
        "For models with autoregression over blocks: temperature of the predicted low bands, as a factor of "
        "--temperature. Lower values sound more voiced. By default 0.9.",
        lower_bound=0.0,
    )
    levels = flags.DEFINE_list(
        "level_temperatures",
        None,
        "Factors on --temperature, one for each level of the split (docs/sampling.md), the first split first, as in "
        "0.9,1. By default all are 1.",
    )
    denoise = flags.DEFINE_float(
        "denoise",
        0.0,
        "How much, 0 to 1, of the model's constant tones to subtract: those that it makes of a silent mel. It helps in "
        "pauses; tones that follow the speech stay (docs/tones.md).",
        0.0,
        1.0,
    )

    def values() -> dict[str, Any]:
        factors = None if levels.value is None else [_number("--level_temperatures", text) for text in levels.value]
        return {"low_temperature": low.value, "level_temperatures": factors, "denoise": denoise.value}

    return values


def _number(flag: str, text: str) -> float:
    """The number that a flag gives. Raises UserError."""
    try:
        return float(text)
    except ValueError as error:
        raise UserError(f"{flag}: {short(text)} is not a number; give numbers, as in 0.9,1") from error


def speaker(otherwise: str) -> flags.FlagHolder[str | None]:
    """Defines --speaker for programs that run models. otherwise: who speaks without the flag."""
    return flags.DEFINE_string(
        "speaker",
        None,
        "Who speaks, for a model that is told (docs/speakers.md): a name that it knows, or a file with a vector of the "
        f"speaker. By default {otherwise}",
    )


def temperatures(*values: float) -> None:
    """Raises UserError unless every temperature is finite and at least 0."""
    for value in values:
        if not 0 <= value < math.inf:
            raise UserError(f"--temperature={value}: must be a finite number, 0 or more")


def _parse(argv: list[str], program: str) -> list[str]:
    """Parses flags with absl. --help prints the program's docstring and flags; a wrong flag is one line and exit 2."""
    if {"--help", "-help", "-h", "--helpshort", "--helpfull"} & set(argv[1:]):
        print(f"{(sys.modules['__main__'].__doc__ or '').strip()}\n\nflags:\n{flags.FLAGS.main_module_help()}")
        sys.exit(0)
    try:
        args = flags.FLAGS(_with_experiment_files(argv))
        if "config" in flags.FLAGS:
            getattr(flags.FLAGS.config, "is_locked", None)  # ml_collections raises here if the file is missing
        return args
    except (flags.Error, UserError) as error:
        message = _flag_error(str(error))
    except Exception as error:  # of ml_collections for an unknown field, or any error raised by a config file
        message = _config_error(error)
    sys.exit(_fail(program, f"{message} (--help lists the flags)", 2))


def _flag_error(text: str) -> str:
    """The error of a flag in one line: without absl's words for a missing one, and a config file's traceback."""
    if missing := re.match(r"flag (--\w+)=None: Flag", text):
        return f"{missing[1]} is missing; give it"
    if "Error whilst parsing config file" in text and (places := re.findall(r'File "(.+)", line (\d+)', text)):
        inside = [place for place in places if "ml_collections" not in place[0]]
        file, line = (inside or places)[-1]
        return f"--config: {' '.join(text.split('Traceback')[-1].splitlines()[-1].split())} ({file}, line {line})"
    return " ".join(text.split())


def _with_experiment_files(argv: list[str]) -> list[str]:
    """The arguments, where --config=lite, the name of an experiment that comes with fwn, is replaced by its file."""
    named = list(argv)
    for i, (before, arg) in enumerate(zip(["", *argv], argv, strict=False)):
        if re.match("--?config=", arg):
            flag, _, given = arg.partition("=")
            named[i] = f"{flag}={experiment_file(given)}"
        elif before in ("--config", "-config"):
            named[i] = experiment_file(arg)
    return named


def _config_error(error: Exception) -> str:
    """The error of a --config in one line: an unknown field with the nearest valid one, or an error in its file."""
    *_, last = traceback.extract_tb(error.__traceback__)
    inner: Any = error
    while isinstance(inner, Exception) and inner.args:
        inner = inner.args[0]
    name, _, hint = str(inner).partition("\n")
    if isinstance(error, OSError):
        return f"--config: {str(error).splitlines()[-1].partition('] ')[2] or error}"
    if isinstance(error, SyntaxError):
        return f"--config: SyntaxError: {error.msg} ({error.filename}, line {error.lineno})"
    if "get_config" in str(error) and isinstance(error, AttributeError):
        return "--config: the file has no get_config(); give a file like experiments/base.py"
    if "ml_collections" not in last.filename:
        return f"--config: {type(error).__name__}: {name} ({last.filename}, line {last.lineno})"
    if not isinstance(error, KeyError | AttributeError):
        return f"--config: {' '.join(str(error).split())}"
    near = re.search(r'mean "([^"]*)"', hint)
    return f"--config: no such field: {name.strip()}" + (f"; did you mean {near[1]!r}?" if near else "")


def _unraisable(unraisable: Any) -> None:
    """Prints unraisable exceptions, but not those that orbax causes after an error that has been printed already."""
    if str(unraisable.exc_value) != "Event loop is closed" and not inspect.iscoroutine(unraisable.object):
        sys.__unraisablehook__(unraisable)


def _guarded(main: Callable[[list[str]], int | None], args: list[str], program: str) -> None:
    try:
        posix.require()
        sys.exit(main(args) or 0)
    except UserError as error:
        sys.exit(_fail(program, str(error), 1))
    except KeyboardInterrupt:
        sys.exit(_fail(program, "interrupted", 128 + signal.SIGINT))
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "RESOURCE_EXHAUSTED" not in str(error):  # XLA's status code
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
    print(printable(f"{program}: {message}"), file=sys.stderr)
    return code


def _program() -> str:
    """How the program was started: "fwn train", "python -m fwn.train", or "python benchmarks/peer.py"."""
    if started:
        return started
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return f"python -m {spec.name.removesuffix('.__main__')}" if spec else f"python {sys.argv[0]}"
