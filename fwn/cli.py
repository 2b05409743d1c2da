"""What every program shares: flags, one-line errors, exit codes.

Exit codes: 0 success, 1 an error (said in one line on stderr), 2 a usage error, 3 finished but some inputs were left
out, 130 interrupted.
"""

import errno
import os
import re
import signal
import sys
from collections.abc import Callable

from absl import app, flags, logging

from fwn.errors import UserError
from fwn.terminal import progress, say

__all__ = ["progress", "run", "say"]


def run(main: Callable[[list[str]], int | None]) -> None:
    """Parses the flags, runs main(positional arguments), exits with its code; errors a user can cause are one line."""
    program = f"python -m {_module()}"
    logging.set_verbosity(logging.FATAL)  # the libraries also log what they raise, with tracebacks
    app.run(lambda argv: _guarded(main, argv[1:], program), flags_parser=lambda argv: _parse(argv, program))


def _parse(argv: list[str], program: str) -> list[str]:
    """Flags by absl; --help prints the program's docstring and flags and succeeds; a wrong flag is one line, exit 2."""
    if {"--help", "-help", "-h", "--helpshort", "--helpfull"} & set(argv[1:]):
        print(f"{(sys.modules['__main__'].__doc__ or '').strip()}\n\nflags:\n{flags.FLAGS.main_module_help()}")
        sys.exit(0)
    try:
        return flags.FLAGS(argv)
    except (flags.Error, UserError) as error:
        message = " ".join(str(error).split())
    except (KeyError, AttributeError) as error:  # what ml_collections raises for an unknown field of a config
        name, near = re.search(r"""["'](\w+)\\*["']""", str(error)), re.search(r'mean "(\w+)"', str(error))
        message = f"--config: no such field: {name[1]!r}" if name else f"--config: {error!r}"
        message += f"; did you mean {near[1]!r}?" if near else ""
        if "get_config" in str(error):
            message = "--config: the file has no get_config(); start from experiments/base.py"
    except (OSError, SyntaxError) as error:  # and for a config file that is missing or no Python
        message = f"--config: {str(error).splitlines()[-1].partition('] ')[2] or error}"
    sys.exit(_fail(program, f"{message} (--help lists the flags)", 2))


def _guarded(main: Callable[[list[str]], int | None], args: list[str], program: str) -> None:
    try:
        sys.exit(main(args) or 0)
    except UserError as error:
        sys.exit(_fail(program, str(error), 1))
    except KeyboardInterrupt:
        sys.exit(_fail(program, "interrupted", 128 + signal.SIGINT))
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
    return spec.name if spec else os.path.basename(sys.argv[0])
