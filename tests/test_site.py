"""The pages with code to follow run as they stand, one of them as a notebook; docstrings become markup."""

import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from small import ROOT

DOCS = ROOT / "docs"
EXECUTE = """
import nbclient, nbformat, sys
cells = nbformat.read(sys.argv[1], as_version=4)
nbclient.NotebookClient(cells, timeout=1200, kernel_name="python3").execute()
nbformat.write(cells, "done.ipynb")
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the voices, as in the repository, to write into."""
    (tmp_path / "voices").symlink_to(ROOT / "voices")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_code_of_the_page_on_text_to_speech_runs(place: Path) -> None:
    page: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", (DOCS / "tts.md").read_text(encoding="utf-8"), re.DOTALL):
        exec(block, page)
    assert (place / "sentence.wav").stat().st_size == 44 + 2 * 425 * 256


def test_the_notebook_is_that_of_the_page_and_runs(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = runpy.run_path(str(DOCS / "notebook.py"))["notebook"]
    stored = nbformat.read(DOCS / "start.ipynb", as_version=4)
    assert stored == notebook((DOCS / "start.md").read_text(encoding="utf-8")), "run: python docs/notebook.py"
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")  # without it jupyter_core warns
    command = [sys.executable, "-c", EXECUTE, str(DOCS / "start.ipynb")]
    run = subprocess.run(command, cwd=place, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    done = nbformat.read(place / "done.ipynb", as_version=4)
    said = "".join(o.get("text", "") for cell in done.cells for o in cell.get("outputs", []))
    assert re.search(r"-?\d\.\d\d nats/sample; noise of deviation \d\.\d\d", said), said
    assert "audio follows the mel by" in said


def test_a_docstring_is_markup_without_surprises() -> None:
    """Names become items, code stays code, and nothing else is taken for markup."""
    page: dict[str, Any] = {}
    exec((DOCS / "conf.py").read_text(encoding="utf-8"), page)
    lines = ["log|det| of `x_b`, x*y.", "low_temperature: a scale", "of noise.", "- one", "", "Note: not a name."]
    page["as_markup"](None, "", "", None, None, lines)
    assert lines == [
        r"log\|det\| of ``x_b``, x\*y.",
        "",
        "- **low_temperature**: a scale",
        "  of noise.",
        "",
        "- one",
        "",
        "Note: not a name.",
    ]
