"""The commands that the README and the recipes show exist, and their options and overrides can be read."""

from __future__ import annotations

import ast
import os
import re
import shlex
from pathlib import Path

import pytest

import asr
from asr.cli import COMMANDS, EXIT_CODES, parse
from asr.compose import compose, expand

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "recipes").rglob("*.md"))]


def blocks(document: Path, language: str) -> list[str]:
    """Fenced blocks of a language, continued lines joined."""
    text = document.read_text(encoding="utf-8")
    return [block.replace("\\\n", " ") for block in re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)]


def shell_lines() -> list[tuple[str, str]]:
    lines = [
        (doc, line.strip())
        for doc in DOCUMENTS
        for language in ("bash", "sh")
        for b in blocks(doc, language)
        for line in b.splitlines()
    ]
    return [(doc.relative_to(ROOT).as_posix(), line) for doc, line in lines if line and not line.startswith("#")]


def recipe_lines() -> list[tuple[str, str]]:
    """The commands in the comments that recipes open with."""
    found = []
    for recipe in sorted((ROOT / "recipes").rglob("*.yaml")):
        first = recipe.read_text(encoding="utf-8").splitlines()[0]
        parts = re.split(r"&&|;", first.lstrip("# "))
        found += [(recipe.relative_to(ROOT).as_posix(), part.strip()) for part in parts]
    return found


def check_command(line: str) -> None:
    """Raise where a line is not a command of ours whose arguments can be read."""
    words = shlex.split(line, comments=True)
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words = words[1:]
    program, arguments = words[0].removeprefix(".venv/bin/"), words[1:]
    if program == "asr":
        stops = "--help" in arguments
        try:
            parse(arguments)
        except SystemExit:
            if not stops:
                raise AssertionError(f"cannot be read: {line}") from None
        if arguments[0] == "train" and "--help" not in arguments and "--config-dir" not in arguments:
            overrides = [word for word in arguments[1:] if "=" in word and not word.startswith("-")]
            for one in expand(overrides) if "--multirun" in arguments else [overrides]:
                compose(one)
    elif "/" in program:
        assert os.access(ROOT / program, os.X_OK) or program.startswith("../"), f"no such program: {line}"
    else:
        assert program in {"pip", "source", "git", "cd", "tensorboard", "pytest", "python", "python3"}, (
            f"unknown program: {line}"
        )


@pytest.mark.parametrize(("document", "line"), [*shell_lines(), *recipe_lines()])
def test_command_can_be_typed(document: str, line: str) -> None:
    assert document
    check_command(line)


@pytest.mark.parametrize(
    "line", ["asr trian", "asr train sed=1", "asr train --wrong", "asr transcribe", "scripts/absent", "frobnicate"]
)
def test_command_that_cannot_be_typed_is_found(line: str) -> None:
    with pytest.raises(Exception, match=r"cannot be read|unknown key|no such program|unknown program"):
        check_command(line)


def test_readme_shows_every_command_and_exit_code() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in COMMANDS:
        assert any(line.startswith(f"asr {name}") for _, line in shell_lines()), name
    for code in re.findall(r"\b(\d+) ", EXIT_CODES):
        assert f"| {code} |" in text


def test_python_of_the_readme_uses_what_there_is() -> None:
    (source,) = blocks(ROOT / "README.md", "python")
    used = {
        node.attr
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "asr"
    }
    assert used
    assert used <= set(asr.__all__)


def test_contributing_names_every_room_and_script() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for path in (ROOT / "asr").iterdir():
        name = f"asr/{path.name}/" if path.is_dir() else f"asr/{path.name}"
        if path.suffix == ".py" and not path.name.startswith("__"):
            assert f"`{name}`" in text
        if path.is_dir() and (path / "__init__.py").exists():
            assert f"`{name}`" in text
    for script in (ROOT / "scripts").iterdir():
        assert f"`scripts/{script.name}" in text


def test_changelog_has_this_version() -> None:
    assert f"## {asr.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_constraints_are_versions_and_nothing_else() -> None:
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        assert re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][A-Za-z0-9.]*", line), line
