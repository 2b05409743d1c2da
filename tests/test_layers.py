"""Imports: which package of fwn may import which, and that every third-party package is declared in setup.cfg."""

import ast
import configparser
import re
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Package: the packages that its files may import. errors, terminal, config, cli and others are single files.
ARROWS = {
    "errors": "",
    "terminal": "",
    "xla": "",
    "files": "errors",
    "mel": "errors files",
    "mel.__main__": "audio cli disk errors files mel",
    "disk": "errors",
    "config": "disk errors files mel",
    "shipped": "errors",
    "posix": "errors",
    "version": "",
    "cli": "errors posix shipped terminal xla",
    "audio": "disk errors",
    "flows": "xla",
    "nn": "flows mel xla",
    "models": "flows nn",
    "systems": "audio errors flows mel models nn",
    "data": "disk errors mel terminal",
    "training": "config data disk errors mel models nn systems terminal xla",
    "synthesis": "config disk errors files mel models nn systems training xla",
    "planning": "errors evaluation models systems training xla",
    "portable": "data errors mel models synthesis systems training",
    "official": "errors models nn",
    "evaluation": "audio config data disk errors flows mel nn synthesis systems terminal training",
    "diagnosis": "config data disk errors evaluation flows mel models nn shipped synthesis systems terminal training "
    "xla",
    "listening": "audio cli disk errors evaluation terminal",
    "serving": "audio errors mel synthesis terminal xla",
    "bijectors": "flows",
    "__init__": "bijectors errors posix synthesis",
    "__main__": "cli errors posix version",
}
# may import every package, but no other program
PROGRAMS = "train sample evaluate compare convert export bench doctor plan score serve"
FOLDERS = {  # folders beside fwn
    "data_prep": "audio cli data disk errors files mel",
    "experiments": "mel shipped",
    "tools": "audio cli config data errors evaluation files mel models shipped synthesis systems training",
}
# In these packages files may import only these files of their own package.
SHARED = {"models": "blocks", "systems": "base losses predictor student"}


def name(path: Path) -> str:
    """fwn/nn/conv.py -> "nn.conv", fwn/nn/__init__.py -> "nn", fwn/__init__.py -> "__init__"."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts[1:] if parts[0] == "fwn" else parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


FILES = {name(path): path for folder in ("fwn", *FOLDERS) for path in sorted((ROOT / folder).rglob("*.py"))}


def package(module: str) -> str:
    """ "nn.conv" -> "nn". The program of a package that others build on is by itself, in ARROWS as "mel.__main__"."""
    return module if module in ARROWS else module.partition(".")[0]


def objection(importer: str, imported: str) -> str | None:
    """The reason why a module may not import this module of fwn; None if it may."""
    above, below = package(importer), package(imported)
    if above == below:
        gathers = imported.startswith(f"{importer}.")  # a package's __init__ may import its own files
        free = above not in SHARED or gathers or imported.partition(".")[2] in SHARED[above].split()
        return None if free else f"files of {above} may not import each other, only {SHARED[above]}"
    if below in PROGRAMS.split():
        return f"{below} is a program"
    if above in PROGRAMS.split():
        return None
    allowed = (ARROWS | FOLDERS).get(above)
    if allowed is None:
        return f"{above} is no package of ARROWS"
    return None if below in allowed.split() else f"{above} may import only {allowed or 'nothing of fwn'}"


def imports(tree: ast.Module, importer: str = "") -> Iterator[str]:
    """The modules of FILES that a file imports, also inside functions; `from fwn import x` is x if x is a file.

    fwn.__version__ is a literal, which any file may name.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            full = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = [node.module or ""]
            if node.level:  # data_prep is fwn.data_prep in a wheel
                assert (node.level, package(importer)) == (1, "data_prep"), f"line {node.lineno}: relative import"
                base = ["data_prep", *filter(None, base)]
            full = [".".join([*base, alias.name]) for alias in node.names]
        else:
            continue
        for module in full:
            top, _, rest = module.partition(".")
            if top == "fwn" and rest != "__version__":
                yield next((n for n in (rest, rest.rpartition(".")[0]) if n in FILES), "__init__")
            elif top in FOLDERS:
                yield next(n for n in (module, module.rpartition(".")[0], top) if n in FILES)


@pytest.mark.parametrize("file", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda file: file.stem)
def test_benchmarks_import_only_what_is_installed(file: Path) -> None:
    """`python benchmarks/NAME.py` finds fwn and the files beside it, but not the folders at the root."""
    roots = [
        alias.name
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Import)
        for alias in node.names
    ]
    roots += [node.module or "" for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.ImportFrom)]
    assert not {name.partition(".")[0] for name in roots} & {*FOLDERS, "tests", "benchmarks"}


GRAPH = {module: set(imports(ast.parse(path.read_text()), module)) - {module} for module, path in FILES.items()}


@pytest.mark.parametrize("module", FILES)
def test_imports_follow_the_arrows(module: str) -> None:
    objections = {f"{module} imports {other}": objection(module, other) for other in GRAPH[module]}
    assert not {k: v for k, v in objections.items() if v}


@pytest.mark.parametrize("above", [*ARROWS, *FOLDERS])
def test_every_arrow_is_used(above: str) -> None:
    used = {package(other) for module in GRAPH if package(module) == above for other in GRAPH[module]} - {above}
    assert set((ARROWS | FOLDERS)[above].split()) == used


def test_every_file_belongs_to_a_package() -> None:
    assert {package(module) for module in FILES} == {*ARROWS, *FOLDERS, *PROGRAMS.split()}


def test_no_cycles() -> None:
    TopologicalSorter(GRAPH).prepare()  # raises CycleError, which names the cycle


def test_no_cycles_of_packages() -> None:
    TopologicalSorter({above: names.split() for above, names in ARROWS.items()}).prepare()


@pytest.mark.parametrize("module", FILES)
def test_file_names_say_what_they_contain(module: str) -> None:
    assert FILES[module].stem not in {"utils", "util", "common", "helpers", "misc"}


@pytest.mark.parametrize(
    ("importer", "imported", "allowed"),
    [
        ("mel.check", "errors", True),
        ("flows.bijectors", "errors", False),
        ("flows.bijectors", "nn.conv", False),
        ("nn.wavenet", "nn.conv", True),
        ("models.iaf", "models.flowavenet", False),
        ("models.iaf", "flows.bijectors", True),
        ("models.flowavenet", "models.blocks", True),
        ("systems.clarinet", "systems.base", True),
        ("systems.clarinet", "systems.wavenet", False),
        ("systems", "systems.clarinet", True),
        ("systems.clarinet", "systems", False),
        ("systems.flowavenet", "training.checkpoints", False),
        ("training.checkpoints", "mel", True),
        ("data.loader", "cli", False),
        ("synthesis.vocoder", "train", False),
        ("train", "cli", True),
        ("train", "sample", False),
        ("sample", "__init__", True),
        ("synthesis.vocoder", "__init__", False),
        ("utils", "errors", False),
        ("data_prep.prepare", "data.corpus", True),
        ("data_prep.prepare", "training.checkpoints", False),
        ("sample", "data_prep.prepare", True),
    ],
)
def test_the_rules_themselves(importer: str, imported: str, allowed: bool) -> None:
    assert (objection(importer, imported) is None) == allowed


@pytest.mark.parametrize(
    ("source", "modules"),
    [
        ("import numpy\nfrom fwnx import y", []),
        ("from fwn import errors, load, __version__", ["errors", "__init__"]),
        ("from fwn.errors import UserError", ["errors"]),
        ("import fwn.cli", ["cli"]),
        ("from fwn.flows import bijectors", ["flows.bijectors"]),
        ("def f():\n    from fwn.systems import base_of_nothing", ["systems"]),
        ("from tools.batches import Batches", ["tools.batches"]),
    ],
)
def test_how_imports_are_read(source: str, modules: list[str]) -> None:
    assert list(imports(ast.parse(source))) == modules


# -- third-party packages

# of tools/onnx_export.py, in an environment of its own: jax2onnx needs orbax below 0.12
ELSEWHERE = {"jax2onnx", "onnxruntime"}
# Import names that differ from the package name.
DISTRIBUTIONS = {"absl": "absl-py", "orbax": "orbax-checkpoint", "PIL": "pillow"}


def normalised(name: str) -> str:
    """ml_dtypes -> "ml-dtypes"."""
    return re.sub(r"[-_.]+", "-", name).lower()


def third_party(tree: ast.AST) -> set[str]:
    """The distributions that a file imports, also inside functions."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(node.module or "")
    ours = {"fwn", *FOLDERS, *sys.stdlib_module_names}
    return {normalised(DISTRIBUTIONS.get(top, top)) for top in map(package, found) if top not in ours}


def declared() -> dict[str, set[str]]:
    """Distributions in setup.cfg: {"": install_requires, "eval": the extra eval, …}."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    lists = {"": setup["options"]["install_requires"], **setup["options.extras_require"]}
    return {name: {*map(normalised, re.findall(r"^[\w-]+", text, re.MULTILINE))} for name, text in lists.items()}


def test_every_imported_distribution_is_declared() -> None:
    """Top-level imports must be in install_requires; imports inside functions may also be in an extra (not dev)."""
    trees = {module: ast.parse(path.read_text()) for module, path in FILES.items()}
    lists = declared()
    required, optional = lists[""], set().union(*(names for extra, names in lists.items() if extra != "dev"))
    undeclared = {}
    for module, tree in trees.items():
        top = third_party(ast.Module([n for n in tree.body if not hasattr(n, "body")], []))
        undeclared[module] = (top - required) | (third_party(tree) - optional - ELSEWHERE)
    assert not {module: names for module, names in undeclared.items() if names}
    # for the bound of its version; for jax.export, which does not ask for it
    assert required - set().union(*map(third_party, trees.values())) == {"jaxlib", "flatbuffers"}


@pytest.mark.parametrize(
    ("source", "distributions"),
    [
        ("import os, numpy as np\nfrom absl import app", {"numpy", "absl-py"}),
        ("from orbax.checkpoint import v1\nimport ml_dtypes", {"orbax-checkpoint", "ml-dtypes"}),
        ("def f():\n    import soxr\n    from scipy.fft import dct", {"soxr", "scipy"}),
        ("from . import shards\nfrom .shards import plan\nfrom fwn.mel import align\nimport tools.parts", set()),
    ],
)
def test_how_distributions_are_read(source: str, distributions: set[str]) -> None:
    assert third_party(ast.parse(source)) == distributions


def test_the_lock_has_hashes_of_the_pinned_versions() -> None:
    """pip install --require-hashes installs the versions that make install does."""

    def entries(name: str) -> dict[str, tuple[set[str], str]]:
        """{package: (versions, its lines)}"""
        found: dict[str, tuple[set[str], str]] = {}
        for entry in re.split(r"^(?=[a-z])", (ROOT / "constraints" / name).read_text(), flags=re.M)[1:]:
            package, version = re.split("[ ;\n]", entry)[0].split("==")
            versions, lines = found.get(package, (set(), ""))
            found[package] = versions | {version}, lines + entry
        return found

    pinned, hashed = entries("pinned.txt"), entries("hashes.txt")
    elsewhere = {"appnope", "colorama", "nest-asyncio"}  # of macOS or Windows alone
    assert len(hashed) > 80
    assert {name: versions for name, (versions, _) in hashed.items() if name not in elsewhere} == {
        name: pinned[name][0] for name in hashed.keys() - elsewhere
    }
    assert all(re.search(r"--hash=sha256:[0-9a-f]{64}$", lines, re.M) for _, lines in hashed.values())
