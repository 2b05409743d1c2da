"""The command `fwn`: it runs each program as `python -m` does.

    fwn PROGRAM [--flags]      run a program
    fwn PROGRAM --help         what it does, and its flags
    fwn --version              versions, git commit and devices

A file or package of fwn or data_prep that can be run is a program: no list of them has to be kept.
"""

import ast
import contextlib
import os
import runpy
import sys
from pathlib import Path

from fwn import posix, version
from fwn.errors import UserError, nearest

HERE = Path(__file__).parent
PREPARATION = HERE / "data_prep"  # in a wheel; in a checkout it is beside fwn/
HELP, VERSION = ("--help", "-h"), ("--version", "-V")


def programs() -> dict[str, tuple[str, Path]]:
    """{name: (module, file)} of the programs, in order of names. Nothing is imported."""
    modules = {file.stem: (f"fwn.{file.stem}", file) for file in HERE.glob("[a-z]*.py")}
    modules |= {file.parent.name: (f"fwn.{file.parent.name}", file) for file in HERE.glob("*/__main__.py")}
    wheel = PREPARATION.is_dir()
    folder, package = (PREPARATION, "fwn.data_prep") if wheel else (HERE.parent / "data_prep", "data_prep")
    modules |= {file.stem: (f"{package}.{file.stem}", file) for file in folder.glob("[a-z]*.py")}
    runs = 'if __name__ == "__main__":'
    return {name: found for name, found in sorted(modules.items()) if runs in found[1].read_text(encoding="utf-8")}


def overview() -> str:
    """How to use the command, and the first line of each program's docstring."""
    lines = [(__doc__ or "").rpartition("\n\n")[0], "", "programs:"]
    for name, (_, file) in programs().items():
        about = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
        lines.append(f"  {name:<10} {about.partition(chr(10))[0]}")
    return "\n".join(lines)


def main() -> None:
    """Runs the program that the first argument names, and exits with its code; 2 if there is no such program."""
    name, *rest = sys.argv[1:] or [HELP[0]]
    if name in HELP:
        print(overview())
        return
    if name in VERSION:
        print(version.report())
        return
    found = programs()
    if name not in found:
        near = nearest(name, [*found, HELP[0], VERSION[0]])
        sys.exit(_fail("fwn", f"there is no program {name!r}{near} (fwn --help lists them)", 2))
    try:
        posix.require()
    except UserError as error:
        sys.exit(_fail(f"fwn {name}", str(error), 1))
    _run(name, found[name][0], rest)


def _run(name: str, module: str, args: list[str]) -> None:
    """`python -m module args`, but for the name of the program in messages."""
    from fwn import cli

    cli.started = f"fwn {name}"
    if not sys.flags.safe_path:
        with contextlib.suppress(OSError):  # the current folder was removed
            sys.path[0] = os.getcwd()  # as for python -m, instead of the folder of this command
        if module.startswith("data_prep."):
            sys.path.insert(0, str(HERE.parent))
    sys.argv = [module, *args]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _fail(program: str, message: str, code: int) -> int:
    print(f"{program}: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    main()
