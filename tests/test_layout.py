"""The order of the rooms: a module imports only what stands above it, and the package itself is light."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import asr

PACKAGE = Path(asr.__file__).parent
ROOMS = (
    ["version"],
    ["errors"],
    ["chatter"],
    ["interrupts"],
    ["output"],
    ["progress"],
    ["untrusted"],
    ["file_names"],
    ["bootstrap"],
    ["mixing"],
    ["waveform"],
    ["files"],
    ["option"],
    ["assignment"],
    ["config"],
    ["config_checks"],
    ["config_mapping"],
    ["compose_circles"],
    ["compose"],
    ["formats"],
    ["resampling"],
    ["audio"],
    ["audio_folder"],
    ["speech"],
    ["data"],
    ["text"],
    ["features"],
    ["model"],
    ["engine"],
    ["ctc"],
    ["crf"],
    ["language"],
    ["package"],
    ["decoding"],
    ["pictures"],
    ["scoring"],
    ["tuning"],
    ["training"],
    ["transcription"],
    ["inspection"],
    ["commands"],
    ["cli"],
    ["__init__", "__main__"],
)
RANK = {name: rank for rank, names in enumerate(ROOMS) for name in names}
INSIDE = {
    "asr.decoding": ("cache", "hypothesis", "scorers", "search", "decoders", "builders", "words", "waveforms", "__init__"),
}
"""Order inside of rooms that are divided into others."""
MODULES = sorted(PACKAGE.rglob("*.py"))


def module_name(path: Path) -> str:
    """Return the dotted name of a module: ``asr.data.table``, and ``asr.data`` of the room itself."""
    return ".".join(["asr", *path.relative_to(PACKAGE).with_suffix("").parts]).removesuffix(".__init__")


NAMES = {module_name(path) for path in MODULES}


def imported_modules(path: Path) -> set[str]:
    """Return the modules of asr that a file imports, inside functions as well."""
    package = ["asr", *path.relative_to(PACKAGE).parts[:-1]]
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = [*package[: len(package) - node.level + 1]] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            inside = {f"{module}.{alias.name}" for alias in node.names}
            names |= {name if name in NAMES else module for name in inside}
    return {name for name in names if name.split(".")[0] == "asr"} - {module_name(path)}


def imported_rooms(path: Path) -> set[str]:
    return {[*name.split("."), "__init__"][1] for name in imported_modules(path)}


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def test_loading_a_model_does_not_import_the_compiler() -> None:
    code = "import sys, asr; asr.load_model(); print('torch' in sys.modules, 'torch._dynamo' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "True False"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_module_imports_only_what_stands_above_it(path: Path) -> None:
    mine = room(path)
    assert mine in RANK, f"{mine} has no place in the order of rooms"
    below = {name for name in imported_rooms(path) if RANK[name] > RANK[mine]}
    assert not below, f"{mine} stands above {', '.join(sorted(below))}"


def inside(name: str, room: str) -> str:
    """Return in which part of a divided room a module of it is."""
    return [*name.removeprefix(room).split("."), "__init__"][1]


@pytest.mark.parametrize("room", INSIDE)
def test_module_imports_only_what_stands_above_it_in_its_room(room: str) -> None:
    rank = {name: place for place, name in enumerate(INSIDE[room])}
    for path in (path for path in MODULES if module_name(path).startswith(f"{room}.") or module_name(path) == room):
        mine = inside(module_name(path), room)
        assert mine in rank, f"{mine} has no place in the order inside {room}"
        used = {inside(name, room) for name in imported_modules(path) if name.startswith(f"{room}.") or name == room}
        below = {name for name in used if rank[name] > rank[mine]}
        assert not below, f"{module_name(path)} stands above {', '.join(sorted(below))}"


def test_no_two_classes_have_one_name() -> None:
    found: dict[str, list[str]] = {}
    for path in MODULES:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found.setdefault(node.name, []).append(module_name(path))
    assert {name: modules for name, modules in found.items() if len(modules) > 1} == {}


def test_every_room_is_in_the_wheel() -> None:
    settings = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8"))
    named = set(settings["tool"]["setuptools"]["packages"])
    assert {module_name(path) for path in PACKAGE.rglob("__init__.py")} == named - {"asr.conf", "asr.recipes"}


def test_no_modules_import_each_other() -> None:
    TopologicalSorter({module_name(path): imported_modules(path) for path in MODULES}).prepare()  # it names a cycle


def test_order_is_read_from_imports_of_every_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "PACKAGE", tmp_path)
    (tmp_path / "data").mkdir()
    file = tmp_path / "data" / "one.py"
    inside = "def f():\n    from asr.model.cnn import Cnn\n    from ..ctc import loss\n"
    file.write_text(f"import asr\nimport asr.cli\nfrom asr import load_model, text\n{inside}")
    assert imported_rooms(file) == {"cli", "text", "model", "ctc", "__init__"}
    assert imported_modules(file) == {"asr", "asr.cli", "asr.text", "asr.model.cnn", "asr.ctc"}


@pytest.mark.parametrize("statement", ["import asr", "import asr.cli", "import asr.config", "import asr.commands.train"])
def test_import_is_light(statement: str) -> None:
    heavy = "{'torch', 'torchaudio', 'lightning', 'lhotse', 'numpy', 'hydra', 'omegaconf', 'yaml', 'jiwer', 'soundfile', 'av'}"
    code = f"import sys; {statement}; print(sorted({heavy} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_module_says_what_it_is_for(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree)
    assert path.name not in {"utils.py", "helpers.py", "misc.py"}


def unsafe_calls(tree: ast.AST) -> list[str]:
    """Calls and imports that can run code out of a file."""
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    loaders = {node.name: [ast.unparse(base) for base in node.bases] for node in classes}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = {alias.name for alias in node.names} | {getattr(node, "module", "")}
            found += sorted({"pickle", "dill", "joblib"} & names)
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            words = {word.arg: ast.unparse(word.value) for word in node.keywords}
            plain_loader = "yaml.SafeLoader" in [words.get("Loader"), *loaders.get(words.get("Loader", ""), [])]
            unsafe_yaml = called == "yaml.unsafe_load" or (called == "yaml.load" and not plain_loader)
            unsafe_torch = called == "torch.load" and words.get("weights_only") != "True"
            found += [called] if unsafe_yaml or unsafe_torch or called in {"eval", "exec"} else []
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_that_can_run_code_is_loaded(path: Path) -> None:
    assert unsafe_calls(ast.parse(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "source",
    ["import pickle", "from pickle import load", "yaml.load(text)", "yaml.load(text, Loader=yaml.Loader)", "torch.load(file)",
     "torch.load(file, weights_only=False)", "eval(text)"],
)  # fmt: skip
def test_what_can_run_code_is_found(source: str) -> None:
    assert unsafe_calls(ast.parse(source))


CONTRIBUTING = (PACKAGE.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")


def faults_of_picture(diagram: str, imports: dict[str, set[str]]) -> list[str]:
    """Name what a diagram of the rooms gets wrong, given what each room imports."""
    nodes = {name: text.replace("<br/>", " ").split() for name, text in re.findall(r'(\w+)\["<b>.*?</b><br/>(.*?)"\]', diagram)}
    shown = [one for names in nodes.values() for one in names]
    faults = [
        f"{one} is shown {shown.count(one)} times" for one in sorted(imports | dict.fromkeys(shown)) if shown.count(one) != 1
    ]
    faults += [f"{one} is no room" for one in shown if one not in imports]
    for start, end in re.findall(r"(\w+) --> (\w+)", diagram):
        if not any(imports.get(one, set()) & set(nodes[start]) for one in nodes[end]):
            faults.append(f"{end} does not use {start}")
    return faults


def test_the_picture_of_the_rooms_is_true() -> None:
    (diagram,) = re.findall(r"```mermaid\n(.*?)```", CONTRIBUTING, re.DOTALL)
    imports: dict[str, set[str]] = {name: set() for name in RANK}
    for path in MODULES:
        imports[room(path)] |= imported_rooms(path)
    assert diagram.count("-->") > len(re.findall("<b>", diagram))
    assert faults_of_picture(diagram, imports) == []


def test_faults_of_a_picture_are_seen() -> None:
    diagram = 'one["<b>first</b><br/>a b<br/>a"]\n two["<b>second</b><br/>c e"]\n one --> two\n two --> one'
    assert faults_of_picture(diagram, {"a": set(), "b": set(), "c": {"a"}, "d": set()}) == [
        *("a is shown 2 times", "d is shown 0 times", "e is no room", "one does not use two")
    ]


def test_the_files_to_read_first_are_there() -> None:
    table = CONTRIBUTING.partition("## Read first")[2].partition("The rooms of the package")[0]
    files = re.findall(r"^\| `(asr/.*?\.py)` \|", table, re.MULTILINE)
    assert len(files) == 10
    assert [name for name in files if not (PACKAGE.parent / name).is_file()] == []


NO_PUBLIC_WAY = {"self._iterator._shutdown_workers"}
"""torch has no other way to end workers that persist, before the loader itself is gone."""


def foreign_private_names(source: str) -> list[str]:
    """List the attributes with a leading underscore that a module reads but does not define."""
    nodes = list(ast.walk(ast.parse(source)))
    own = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    own |= {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    attributes = [node for node in nodes if isinstance(node, ast.Attribute)]
    own |= {node.attr for node in attributes if isinstance(node.ctx, ast.Store) and isinstance(node.value, ast.Name)}
    is_own = {id(node) for node in attributes if isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")}
    private = [node for node in attributes if node.attr.startswith("_") and not node.attr.startswith("__")]
    foreign = [ast.unparse(node) for node in private if node.attr not in own and id(node) not in is_own]
    return sorted(set(foreign) - NO_PUBLIC_WAY)


@pytest.mark.parametrize("path", sorted(Path(asr.__file__).parent.rglob("*.py")), ids=lambda path: path.name)
def test_no_private_names_of_libraries(path: Path) -> None:
    assert foreign_private_names(path.read_text()) == []
    assert foreign_private_names("import torch\ntorch._C._name(torch.public)") != []
