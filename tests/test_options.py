"""Every key of the schemas and every argument of the commands is read by what it is there for."""

from __future__ import annotations

import argparse
import ast
import dataclasses
import importlib
import typing
from collections.abc import Iterator
from pathlib import Path

import pytest

import asr
from asr.cli import COMMANDS
from asr.config import Config
from asr.language.config import LstmTraining, NgramTraining

PACKAGE = Path(asr.__file__).parent
DECLARING = {"config", "config_checks", "config_mapping"}
"""Modules that declare keys, check and copy them; what only they read does nothing."""
CHOOSING = {"NgramConfig.kind", "LstmConfig.kind"}
"""Keys that choose the schema itself."""


def sections(schema: type, name: str = "config") -> Iterator[tuple[str, type]]:
    """A schema and the sections in it, by the name of the field that holds each."""
    yield name, schema
    hints = typing.get_type_hints(schema)
    for field in dataclasses.fields(schema):
        if dataclasses.is_dataclass(hints[field.name]):
            yield from sections(typing.cast(type, hints[field.name]), field.name)


def last(node: ast.AST) -> str | None:
    """The last name of ``a.b.c``."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else None


def holders(tree: ast.AST, name: str, schema: type) -> set[str]:
    """Names of variables and attributes of a module that hold a section: by their annotation, or what is assigned to them."""
    found, classes = {name}, [base.__name__ for base in schema.__mro__ if dataclasses.is_dataclass(base)]
    for node in ast.walk(tree):
        if isinstance(node, ast.arg) and node.annotation is not None and _names(node.annotation, classes):
            found.add(node.arg)
        elif isinstance(node, ast.AnnAssign) and _names(node.annotation, classes):
            found.add(last(node.target) or "")
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            for target, value in _pairs(node.targets[0], node.value):
                if last(value) in found:
                    found.add(last(target) or "")
    return found


def _names(annotation: ast.expr, classes: list[str]) -> bool:
    return any(name in ast.unparse(annotation) for name in classes)


def _pairs(target: ast.AST, value: ast.AST) -> list[tuple[ast.AST, ast.AST]]:
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        return list(zip(target.elts, value.elts, strict=True))
    return [(target, value)]


def unread(schema: type, trees: list[ast.AST]) -> set[str]:
    """``Section.key`` of each key that no module reads of what holds its section."""
    left = set()
    for name, section in sections(schema):
        read = set()
        for tree in trees:
            names = holders(tree, name, section)
            nodes = (node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load))
            read |= {node.attr for node in nodes if last(node.value) in names}
        left |= {f"{section.__name__}.{field.name}" for field in dataclasses.fields(section) if field.name not in read}
    return left


def trees(*folders: str) -> list[ast.AST]:
    found = [path for folder in folders for path in sorted((PACKAGE / folder).rglob("*.py"))]
    paths = [path for path in found if path.stem not in DECLARING]
    return [ast.parse(path.read_text(encoding="utf-8")) for path in paths]


@pytest.mark.parametrize(
    ("schema", "folders"), [(Config, [""]), (NgramTraining, ["language"]), (LstmTraining, ["language", "engine"])]
)
def test_every_key_is_read_outside_of_the_schema(schema: type, folders: list[str]) -> None:
    assert unread(schema, trees(*folders)) - CHOOSING == set()


def test_a_key_that_nothing_reads_is_found() -> None:
    source = ast.parse("def f(settings: Part, other: Whole):\n    part = other.part\n    settings.one, part.two, name.three")
    part = dataclasses.make_dataclass("Part", [("one", int), ("two", int), ("three", int)])
    whole = dataclasses.make_dataclass("Whole", [("part", part)])
    assert unread(whole, [source]) == {"Part.three"}


def arguments(parser: argparse.ArgumentParser) -> Iterator[str]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                yield from arguments(inner)
        if action.dest not in {argparse.SUPPRESS, "help"}:
            yield action.dest


@pytest.mark.parametrize("command", COMMANDS)
def test_every_argument_is_read_by_its_command(command: str) -> None:
    module = importlib.import_module(f"asr.commands.{command}")
    parser = argparse.ArgumentParser(add_help=False)
    module.add_arguments(parser)
    paths = (PACKAGE / "commands" / f"{name}.py" for name in (command, "arguments", "overrides"))
    nodes = [node for path in paths for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))]
    read = {node.attr for node in nodes if isinstance(node, ast.Attribute) and last(node.value) in {"args", "namespace"}}
    assert set(arguments(parser)) - read == set()
