"""Makes docs/start.ipynb of docs/start.md: text becomes cells of text, Python becomes cells of code.

python -m tools.notebook
"""

import re
from pathlib import Path

import nbformat
from nbformat import v4

PAGE = Path(__file__).resolve().parent / "start.md"


def notebook(page: str) -> nbformat.NotebookNode:
    """The notebook of a page of Markdown. Cells have their number as id, so that equal pages make equal files."""
    cells = []
    for i, part in enumerate(re.split(r"(```python\n.*?```\n)", page, flags=re.DOTALL)):
        if code := re.fullmatch(r"```python\n(.*?)\n```\n", part, flags=re.DOTALL):
            cells.append(v4.new_code_cell(code[1], id=f"cell-{i}"))
        elif part.strip():
            cells.append(v4.new_markdown_cell(part.strip(), id=f"cell-{i}"))
    return v4.new_notebook(cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}})


def main() -> None:
    target = PAGE.with_suffix(".ipynb")
    target.write_text(nbformat.writes(notebook(PAGE.read_text(encoding="utf-8"))) + "\n", encoding="utf-8")
    print(target)


if __name__ == "__main__":
    main()
