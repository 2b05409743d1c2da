"""The documents say what is so: each name, file, link, command and flag in them exists. Read by ast, nothing is run."""

import ast
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from experiments import base
from fwn.__main__ import programs

ROOT = Path(__file__).resolve().parents[1]
OURS = ("fwn", "data_prep", "experiments", "tools", "benchmarks", "tests")
FIRST_SCREEN = 45  # lines
DOCS = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in [*ROOT.glob("*.md"), *sorted((ROOT / "docs").rglob("*.md")), *sorted(ROOT.glob("voices/*/*.md"))]
}
README = DOCS["README.md"]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def fences(text: str, language: str = "") -> list[str]:
    """The contents of the blocks fenced as ```language."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [content for found, content in blocks if found == language]


def commands(text: str) -> list[list[str]]:
    """The words of every line of the fences without a language, which hold commands; a backslash joins lines."""
    lines = "".join(fences(text)).replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def spans(text: str) -> list[str]:
    """What stands between `backticks`, outside fences."""
    return re.findall(r"`([^`]+)`", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL))


@cache
def tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def defined(node: ast.AST) -> dict[str, ast.AST]:
    """The names that a module, class or function itself defines or imports, and what each stands for."""
    names: dict[str, ast.AST] = {}
    for child in getattr(node, "body", []):
        if isinstance(child, ast.FunctionDef | ast.ClassDef):
            names[child.name] = child
        elif isinstance(child, ast.Import | ast.ImportFrom):
            names |= {(alias.asname or alias.name): child for alias in child.names}
        elif isinstance(child, ast.Assign):
            names |= {t.id: child for t in child.targets if isinstance(t, ast.Name)}
            if "__all__" in names and names["__all__"] is child:  # fwn/__init__.py imports them on first use
                names |= dict.fromkeys(ast.literal_eval(child.value), child)
        elif isinstance(child, ast.AnnAssign) and isinstance(child.target, ast.Name):
            names[child.target.id] = child
    return names


def missing(file: Path, name: str) -> str | None:
    """The first part of a dotted name that `file` does not define; None if it is all there."""
    node: ast.AST = tree(file)
    for part in filter(None, name.split(".")):
        if part not in defined(node):
            return part
        node = defined(node)[part]
    return None


def module(dotted: str) -> tuple[Path, str] | None:
    """fwn.mel.align -> (fwn/mel/__init__.py, "align"): the longest prefix that is a file, and the rest."""
    parts = dotted.split(".")
    for n in range(len(parts), 0, -1):
        stem = ROOT.joinpath(*parts[:n])
        for file in (stem.with_suffix(".py"), stem / "__init__.py"):
            if file.is_file():
                return file, ".".join(parts[n:])
    return None


@cache
def shared_flags() -> dict[str, set[str]]:
    """Flags that each function of fwn.cli defines, by its name: {"cli.ckpt": {"ckpt"}, …}."""
    found = {}
    for function in (node for node in tree(ROOT / "fwn" / "cli.py").body if isinstance(node, ast.FunctionDef)):
        calls = [node for node in ast.walk(function) if isinstance(node, ast.Call)]
        found[f"cli.{function.name}"] = {
            ast.literal_eval(call.args[0]) for call in calls if ast.unparse(call.func).startswith("flags.DEFINE_")
        }
    return found


def flags(program: str) -> tuple[set[str], set[str]]:
    """(all flags that a program defines, those of them that must be given)."""
    found = module(f"{program}.__main__") or module(program)
    if found and found[1] == "__main__":  # no package, but a file
        found = module(program)
    assert found is not None, f"there is no program {program}"
    assert not found[1], f"there is no program {program}"
    names, required = set(), set()
    for call in (node for node in ast.walk(tree(found[0])) if isinstance(node, ast.Call)):
        function = ast.unparse(call.func)
        names |= shared_flags().get(function, set())
        if re.search(r"\b(config_)?flags\.(DEFINE_|mark_flag_as_required)", function):
            name = ast.literal_eval(call.args[0])
            if any(k.arg == "required" for k in call.keywords) or function.endswith("as_required"):
                required.add(name)
            names |= {name, f"no{name}"} if function.endswith("DEFINE_bool") else {name}
    return names, required


def unknown_field(flag: str) -> str | None:
    """The first field of --config.a.b that the experiments do not have."""
    node: Any = base.get_config()
    for part in flag.split(".")[1:]:
        if part not in node:
            return part
        node = node[part]
    return None


def program_and_flags(words: list[str]) -> tuple[str, list[str]] | None:
    """(program, names of its flags) of a line that runs `fwn NAME`, `python -m` one of ours, or `python file.py`."""
    if words[0] == "fwn" and words[1:2] != ["--version"]:
        return programs()[words[1]][0], [w[2:].partition("=")[0] for w in words[2:] if w.startswith("--")]
    for i, word in enumerate(words):
        if (words[i - 1] == "-m" and word.split(".")[0] in OURS) or (word.endswith(".py") and "=" not in word):
            program = word.removesuffix(".py").replace("/", ".")
            return program, [w[2:].partition("=")[0] for w in words[i + 1 :] if w.startswith("--")]
    return None


TARGETS = set(re.findall(r"^([a-z-]+):.*## ", MAKEFILE, re.MULTILINE))
VARIABLES = set(re.findall(r"^([A-Z_]+) \?=", MAKEFILE, re.MULTILINE))
ALL_FLAGS = {
    flag
    for folder in ("fwn", "fwn/listening", "fwn/mel", "data_prep", "tools")
    for file in (ROOT / folder).glob("*.py")
    for flag in flags(".".join(file.relative_to(ROOT).with_suffix("").parts))[0]
}
COMMANDS = {f"{name}: {' '.join(words)}": words for name, text in DOCS.items() for words in commands(text)}


@pytest.mark.parametrize("name", DOCS)
def test_files_functions_and_modules_exist(name: str) -> None:
    """`fwn/file.py::Class.method`, `fwn/folder/`, `fwn.module.name`, and any file of ours in a table or picture."""
    wrong = []
    for span in spans(DOCS[name]):
        if match := re.fullmatch(r"([\w/.]+\.py)::([\w.]+)", span):
            file = ROOT / match[1]
            wrong += [span] if not file.is_file() or missing(file, match[2]) else []
        elif span.startswith(tuple(f"{folder}/" for folder in (*OURS, "docs", "constraints"))) and " " not in span:
            wrong += [] if (ROOT / span).exists() or re.search(r"[A-Z]+\.py|\*", span) else [span]
        elif match := re.fullmatch(rf"((?:{'|'.join(OURS)})(?:\.\w+)+)(?:\(.*\)| .*)?", span):
            found = module(match[1])
            wrong += [span] if found is None or missing(*found) else []
    assert not wrong


def docstrings(file: Path) -> str:
    """All docstrings of a file, and its comments."""
    nodes = [n for n in ast.walk(tree(file)) if isinstance(n, ast.Module | ast.ClassDef | ast.FunctionDef)]
    comments = re.findall(r"#.*", file.read_text(encoding="utf-8"))
    return "\n".join([*filter(None, map(ast.get_docstring, nodes)), *comments])


@pytest.mark.parametrize("file", sorted((ROOT / "fwn").rglob("*.py")), ids=lambda file: str(file.relative_to(ROOT)))
def test_names_in_docstrings_exist(file: Path) -> None:
    """`fwn.mel.align`, `flows.repeated.repeated`, `repeated.repeated`: what a docstring refers to is there."""
    packages = {p.parent.name for p in (ROOT / "fwn").glob("*/__init__.py")} - {"config"}  # config.model is a field
    modules = {p.stem: p for p in (ROOT / "fwn").rglob("*.py") if not p.stem.startswith("__")}
    wrong = []
    for name in re.findall(r"(?<![\w./])([a-z_]+(?:\.[A-Za-z_]\w+)+)(?![\w/])", docstrings(file)):
        first, _, rest = name.partition(".")
        if rest in ("py", "jsonl"):
            continue
        if first == "fwn" or first in packages:
            found = module(name if first == "fwn" else f"fwn.{name}")
            wrong += [name] if found is None or missing(*found) else []
        elif first in modules and first not in ("config", "vocoder"):  # an experiment's, and an object
            wrong += [name] if missing(modules[first], rest) else []
    assert not wrong


def test_every_equation_names_its_function() -> None:
    """Between a formula of docs/equations.md and the next section stands a function."""
    sections = re.split(r"^## ", DOCS["docs/equations.md"], flags=re.MULTILINE)[1:]
    assert len(sections) > 10
    assert not [s.splitlines()[0] for s in sections if not fences(s, "math") or "`fwn/" not in s.rpartition("```")[2]]


def links(text: str) -> Iterator[str]:
    yield from re.findall(r"\]\(([^)\s]+)\)", text)
    yield from re.findall(r"""(?:src|href)=["']([^"']+)""", text)


def anchors(text: str) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize(
    ("name", "target"),
    [(name, link) for name, text in DOCS.items() for link in links(text) if not re.match(r"https?://", link)],
)
def test_link_leads_somewhere(name: str, target: str) -> None:
    path, _, anchor = target.partition("#")
    file = (ROOT / name).parent / path if path else ROOT / name
    assert file.exists()
    assert not anchor or anchor in anchors(file.read_text(encoding="utf-8"))


@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS.keys())
def test_command_can_be_given(words: list[str]) -> None:
    """Programs, targets, variables, flags and fields of the experiment exist, and no required flag is left out."""
    if words[0] == "make":
        named = [word for word in words[1:] if "=" not in word]
        assert set(named) <= TARGETS
        assert {word.partition("=")[0] for word in words[1:] if "=" in word} <= VARIABLES
        return
    program = program_and_flags(words)
    if program is None:
        assert words[0] in (".ci/run", ".venv/bin/python", "pip", "fwn"), (
            f"neither make nor a program of ours: {words[0]}"
        )
        return
    known, required = flags(program[0])
    assert not {flag for flag in program[1] if flag.partition(".")[0] not in known}
    assert not required - set(program[1])
    assert not {flag for flag in program[1] if flag.startswith("config.") and unknown_field(flag)}


@pytest.mark.parametrize("name", DOCS)
def test_flags_targets_and_fields_in_the_text_exist(name: str) -> None:
    wrong = []
    for span in spans(DOCS[name]):
        for flag in re.findall(r"(?<!\S)--([\w.]+)", span):
            if flag not in ("help", "version") and (flag.partition(".")[0] not in ALL_FLAGS or unknown_field(flag)):
                wrong.append(span)
        if match := re.match(r"make ([a-z-]+)", span):
            wrong += [] if match[1] in TARGETS else [span]
        if match := re.fullmatch(r"([A-Z_]+)=.*", span):
            wrong += [] if match[1] in VARIABLES else [span]
    assert not wrong


def test_first_screen_has_exactly_two_commands() -> None:
    screen = "\n".join(README.splitlines()[:FIRST_SCREEN])
    assert re.findall(r"^```(.*)$", screen, re.MULTILINE) == [""] * 4
    assert [block.strip() for block in fences(screen)] == ["make demo", "make test"]


def test_python_uses_what_there_is() -> None:
    files = [tree(ROOT / f"fwn/synthesis/{name}.py") for name in ("density", "sampler", "vocoder")]
    vocoder = [node for file in files for node in ast.walk(file) if isinstance(node, ast.ClassDef)]
    attributes = {name for part in vocoder for name in (*defined(part), *re.findall(r"self\.(\w+)", ast.unparse(part)))}
    blocks = [block for text in DOCS.values() for block in fences(text, "python")]
    nodes = [node for block in blocks for node in ast.walk(ast.parse(block))]
    imported = [n for n in nodes if isinstance(n, ast.ImportFrom) and n.module != "load_fwn"]  # that is in an export
    used = [f"{n.module}.{alias.name}" for n in imported for alias in n.names]
    used += [ast.unparse(n) for n in nodes if isinstance(n, ast.Attribute) and ast.unparse(n.value) == "fwn"]
    assert "fwn.load" in used
    for name in used:
        found = module(name)
        assert found, name
        assert missing(*found) is None, name
    of_vocoder = {n.attr for n in nodes if isinstance(n, ast.Attribute) and ast.unparse(n.value) == "vocoder"}
    assert {"mel", "log_likelihood"} <= of_vocoder <= attributes


def test_the_page_from_loss_to_coupling_has_the_loss() -> None:
    """Its code, run, gives what fwn.train minimises, for random weights."""
    import jax
    import numpy as np

    from experiments import base
    from fwn.models.flowavenet import FloWaveNet
    from fwn.nn.weight_norm import fold_weight_norm
    from fwn.systems import build

    sizes = {"n_block": 3, "n_flow": 2, "channels": 6, "prior_channels": 5, "block_per_split": 1}
    config, page, rng = base.get_config(), {}, np.random.default_rng(0)
    config.model.update(sizes)
    exec(fences(DOCS["docs/from-loss-to-coupling.md"], "python")[0], page)
    audio, mel = rng.normal(0, 0.1, (2, 1024)).astype("float32"), rng.uniform(size=(2, 4, 80)).astype("float32")
    system, batch = build(config), {"audio": audio, "mel": mel, "index": np.arange(2)}
    shapes = jax.eval_shape(system.init, jax.random.key(0), batch, {})
    params = jax.tree.map(lambda a: 0.5 + 0.1 * rng.normal(size=a.shape).astype("float32"), shapes)
    expected, _ = system.loss(params, (), batch, jax.random.key(0))
    found = page["loss"](FloWaveNet(**sizes), fold_weight_norm(params), audio, mel)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_the_page_of_bijectors_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its errors are rounding, and the flow learns the two moons."""
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    monkeypatch.chdir(tmp_path)
    page: dict[str, Any] = {}
    for block in fences(DOCS["docs/bijectors.md"], "python"):
        exec(block, page)
    assert page["error"] < 2e-6
    assert page["difference"] < 1e-5
    assert -page["loss"] > page["before"] + 1.5
    assert (tmp_path / "toy.png").stat().st_size > 10_000


def test_design_draws_every_package_and_file() -> None:
    """The tree in docs/design.md has every file of fwn in its package, and no other."""
    picture = next(block for block in fences(DOCS["docs/design.md"], "text") if block.startswith("fwn/"))
    drawn: dict[str, set[str]] = {}
    for line in picture.splitlines()[1:]:
        package, *files = line.split()
        drawn.setdefault(package.rstrip("/"), set()).update(files)
    there: dict[str, set[str]] = {}
    for path in (ROOT / "fwn").rglob("*.py"):
        if not path.stem.startswith("__"):
            there.setdefault(path.parent.relative_to(ROOT / "fwn").as_posix(), set()).add(path.stem)
    assert drawn == there


def test_every_preset_is_documented_with_its_hash() -> None:
    from fwn.mel import PRESETS

    rows = dict(re.findall(r"^\| `(\w+)` \| ([0-9a-f]{12}) \|", DOCS["docs/mels.md"], re.MULTILINE))
    assert rows == {name: contract.hash() for name, contract in PRESETS.items()}


def test_one_version_everywhere() -> None:
    version = re.search(r'__version__ = "(.*)"', (ROOT / "fwn/__init__.py").read_text(encoding="utf-8"))
    assert version
    assert re.findall(r"^## ([\d.]+)", DOCS["CHANGELOG.md"], re.MULTILINE)[0] == version[1]
    assert re.findall(r"^version: (.*)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.M) == [version[1]]
    assert re.findall(r"version = \{(.*)\}", README) == [version[1]]


@pytest.mark.parametrize("name", DOCS)
def test_nothing_is_left_to_fill_in(name: str) -> None:
    assert not re.findall(r"TODO.*", DOCS[name])
