"""The documentation as a site: `make docs` writes it to build/docs. Its pages are the Markdown files of this folder."""

import re
from typing import Any

project = "fwn"
extensions = ["myst_parser", "sphinx.ext.autodoc"]
html_theme = "furo"
html_title = "fwn"
html_extra_path = ["../voices/lj-mini/samples"]  # what is heard on the first page
myst_enable_extensions = ["dollarmath"]
myst_fence_as_directive = ["math"]
myst_heading_anchors = 4
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"

OUTSIDE = re.compile(r"\[([^\]]*)\]\((?:\.\./)+((?:voices|tools|fwn|experiments|benchmarks)[^)]*)\)")
ITEM = re.compile(r"- |((?:[a-z_]\w*, )*[a-z_]\w*): ")


def without_repository(app: Any, name: str, source: list[str]) -> None:
    """Links to files of the repository that are not in the site become their names."""
    del app, name
    source[0] = OUTSIDE.sub(r"\1 (`\2`)", source[0])


def escaped(line: str) -> str:
    """A line of plain text with `code` in reStructuredText."""
    words = re.split(r"(`[^`]*`)", line)
    return "".join(f"`{w}`" if w.startswith("`") else re.sub(r"([|*_\\])", r"\\\1", w) for w in words)


def as_markup(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """A docstring is plain text with `code`. Lines "name: …" and "- …" begin an item; other markup is escaped."""
    del app, what, name, thing, options
    plain, in_item = [*lines], False
    lines.clear()
    for line in plain:
        if begins := ITEM.match(line):
            in_item, name = True, begins[1]
            lines += ["", f"- **{name}**: {escaped(line[begins.end() :])}" if name else escaped(line)]
        else:
            in_item = in_item and bool(line.strip())
            lines.append(escaped("  " + line.strip() if in_item else line))


def setup(app: Any) -> None:
    app.connect("source-read", without_repository)
    app.connect("autodoc-process-docstring", as_markup)
