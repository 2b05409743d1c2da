"""The layers of the house, read from the imports: a file of fwn/ imports only from layers below its own."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]


class Layer(NamedTuple):
    """`files`: modules or packages of fwn; `within`: those of them that files of the same layer may import."""

    name: str
    files: str
    within: str = ""


MACHINERY = (  # may import each other
    "config flops audio corpus data optim training checkpoints journal parallel chunked metrics plots vocoder exported "
    "torch_file official measure paper studies report stimuli listening_test demo_page ballots opinion "
    "crops parts"
)
LAYERS = (  # from the lowest to the highest
    Layer("words", "errors terminal outline sums"),
    Layer("contracts", "mel", within="mel"),
    Layer("maths", "bijectors densities spectral shapes layers prediction", within="bijectors"),
    Layer("networks", "nn", within="nn"),
    Layer("models", "models", within="models.blocks"),
    Layer("systems", "losses systems", within="losses systems.base systems.predictor systems.student"),
    Layer("machinery", MACHINERY, within=MACHINERY),
    Layer("api", "__init__"),
    Layer("programs", "cli train slots sample evaluate convert bench export listening compare", within="cli"),
)
DATA_PREP_MAY_IMPORT = "mel audio corpus cli terminal errors"


def covers(names: str, module: str) -> bool:
    """Whether `module` ("systems.base") is one of `names` or inside a package which is."""
    return any(f"{module}.".startswith(f"{name}.") for name in names.split())


def level(module: str) -> int | None:
    """The index of the layer that a module of fwn belongs to."""
    return next((i for i, layer in enumerate(LAYERS) if covers(layer.files, module)), None)


def objection(importer: str, imported: str) -> str | None:
    """Why a module of fwn (or of data_prep) may not import this module of fwn; None where it may."""
    if importer.startswith("data_prep"):
        return None if covers(DATA_PREP_MAY_IMPORT, imported) else f"data_prep may import only {DATA_PREP_MAY_IMPORT}"
    above, below = level(importer), level(imported)
    if above is None or below is None:
        return f"{importer if above is None else imported} is in no layer"
    layer = LAYERS[above]
    if below > above:
        return f"{layer.name} may not import {LAYERS[below].name}, a higher layer"
    gathers = imported.startswith(f"{importer}.")  # a package's __init__ may import its own files
    if below == above and not gathers and not covers(layer.within, imported):
        return f"{layer.name} may not import each other" + (f", only {layer.within}" if layer.within else "")
    return None


def name(path: Path) -> str:
    """fwn/nn/conv.py -> "nn.conv", fwn/nn/__init__.py -> "nn", fwn/__init__.py -> "__init__"."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts[1:] if parts[0] == "fwn" else parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


FILES = {name(path): path for folder in ("fwn", "data_prep") for path in sorted((ROOT / folder).rglob("*.py"))}


def imports(tree: ast.Module) -> Iterator[str]:
    """The modules of fwn that a file imports, inside its functions too; `from fwn import x` is x where x is a file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            full = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import"
            full = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for module in (f.removeprefix("fwn").removeprefix(".") for f in full if covers("fwn", f)):
            if module == "__version__":  # a literal, which any file may name
                continue
            names = [module, module.rpartition(".")[0]]
            yield next((n for n in names if n in FILES), "__init__")


GRAPH = {module: set(imports(ast.parse(path.read_text()))) - {module} for module, path in FILES.items()}


@pytest.mark.parametrize("module", FILES)
def test_imports_only_from_layers_below(module: str) -> None:
    assert module.startswith("data_prep") or level(module) is not None, f"{FILES[module]} is in no layer of LAYERS"
    objections = {f"{module} imports {other}": objection(module, other) for other in GRAPH[module]}
    assert not {k: v for k, v in objections.items() if v}


def test_no_cycles() -> None:
    TopologicalSorter(GRAPH).prepare()  # raises CycleError, which names the cycle


@pytest.mark.parametrize("module", FILES)
def test_file_is_named_for_what_it_holds(module: str) -> None:
    assert FILES[module].stem not in {"utils", "util", "common", "helpers", "misc"}


@pytest.mark.parametrize(
    ("importer", "imported", "allowed"),
    [
        ("bijectors", "errors", True),
        ("bijectors", "nn.conv", False),
        ("nn.wavenet", "nn.conv", True),
        ("models.iaf", "models.flowavenet", False),
        ("models.iaf", "bijectors", True),
        ("systems.clarinet", "systems.base", True),
        ("systems.clarinet", "systems.wavenet", False),
        ("systems", "systems.clarinet", True),
        ("systems.clarinet", "systems", False),
        ("systems.flowavenet", "checkpoints", False),
        ("checkpoints", "mel", True),
        ("data", "cli", False),
        ("vocoder", "train", False),
        ("train", "cli", True),
        ("train", "sample", False),
        ("sample", "__init__", True),
        ("vocoder", "__init__", False),
        ("utils", "errors", False),
        ("data_prep.prepare", "corpus", True),
        ("data_prep.prepare", "checkpoints", False),
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
        ("def f():\n    from fwn.systems import base_of_nothing", ["systems"]),
    ],
)
def test_how_imports_are_read(source: str, modules: list[str]) -> None:
    assert list(imports(ast.parse(source))) == modules
