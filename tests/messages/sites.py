"""Where the programs raise UserError, and which of these places give the message of a row."""

import ast
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import small

# file: text of the error, and why it has no row.
RETURNED = (
    "fwn/training/loop.py: …: …; the run returned to a checkpoint … times before (config.max_returns=…); the "
    "checkpoint of step … is in place: look at the batches in …/skipped-*.npz, or … and --init_from=…"
)
WITHOUT = {RETURNED: "steps of a run come before it, so its journal changes: tests/test_programs.py"}


class Site(NamedTuple):
    name: str  # file: the text
    pattern: re.Pattern[str]
    text: int  # characters of the message that are always the same


def template(node: ast.expr) -> tuple[str, str, int]:
    """(what is shown, a regular expression, number of constant characters) of the message in an expression."""
    match node:
        case ast.Constant():
            return str(node.value), re.escape(str(node.value)), len(str(node.value))
        case ast.JoinedStr():
            parts = [template(part) for part in node.values]
        case ast.BinOp(op=ast.Add()):
            parts = [template(node.left), template(node.right)]
        case ast.Call(func=ast.Attribute(value=ast.JoinedStr() as text, attr="rstrip")):
            return template(text)
        case _:
            return "…", ".*", 0
    return "".join(p[0] for p in parts), "".join(p[1] for p in parts), sum(p[2] for p in parts)


def sites() -> Iterator[Site]:
    """Each `raise UserError(…)`, and each message that `locked` raises."""
    for file in sorted([*(small.ROOT / "fwn").rglob("*.py"), *(small.ROOT / "data_prep").rglob("*.py")]):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        texts = {node.targets[0].id: node.value for node in ast.walk(tree) if _names(node)}
        for node in ast.walk(tree):
            message = None
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                message = node.exc.args[0] if ast.unparse(node.exc.func) == "UserError" else None
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "locked":
                message = node.args[1]
            if message is not None:
                message = texts.get(message.id, message) if isinstance(message, ast.Name) else message
                shown, pattern, text = template(message)
                name = f"{file.relative_to(small.ROOT).as_posix()}: {shown}"
                yield Site(name, re.compile(f"(?:[^ ]+: )?{pattern}", re.DOTALL), text)


def _names(node: ast.AST) -> bool:
    """Whether it is `name = …`."""
    return isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)


def without_rows(messages: Sequence[str]) -> set[str]:
    """Names of the places whose message no row has. A message counts for the place with the most text that fits it.

    A file or folder may be before the text: where an error is raised again.
    """
    everywhere, met = list(sites()), set()
    for message in messages:
        fitting = [site for site in everywhere if site.pattern.fullmatch(message)]
        most = max((site.text for site in fitting), default=0)
        met |= {site.name for site in fitting if site.text == most}
    return {site.name for site in everywhere} - met
