"""Files that a stranger may have written, such as those of a model package: nothing but regular files, read within bounds.

What is larger than such a file can sensibly be is refused before it is read or while it is, so that no file, however made,
takes more than some seconds and a part of the memory.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NoReturn

import yaml

from asr.errors import PackageError, UserError

MAX_CONFIG_BYTES = 1 << 18
"""Of a ``config.yaml``: a hundred times what one of ours takes."""

MAX_TOKENIZER_BYTES = 1 << 23
"""Of a ``tokenizer.json``: it may hold a dictionary of pronunciations (one like CMUdict takes 1 MiB) or 65,536 pieces."""

MAX_CARD_BYTES = 1 << 20
"""Of a ``README.md``."""

MAX_LINES, MAX_LINE_BYTES, MAX_LIST_BYTES = 1 << 20, 1 << 12, 1 << 26
"""Of a list of words, such as a lexicon: its lines, the bytes of each, and those of all."""

_MAX_ENTRIES = 1000  # of the folder of language models
_MAX_DEPTH = 32
_MAX_NODES = 1 << 14
_MAX_NUMBER = 64  # characters


def open_file(path: Path, max_bytes: int, error: type[UserError] = PackageError) -> BinaryIO:
    """Open a regular file for reading.

    Parameters
    ----------
    path
        The file. What is none (a pipe, a device, a folder) is refused without being read.
    max_bytes
        The most that it may hold.
    error
        What is raised.

    Raises
    ------
    UserError
        It is no regular file, or a larger one.
    OSError
        It is absent, or may not be read.
    """
    number = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe that nobody writes to would wait
    stream = os.fdopen(number, "rb")
    found = os.fstat(number)
    try:
        if not stat.S_ISREG(found.st_mode):
            raise error(f"{path}: {_kind(found.st_mode)}; expected a file")
        if found.st_size > max_bytes:
            raise error(f"{path}: {found.st_size:,} bytes; expected {max_bytes:,} at most")
    except UserError:
        stream.close()
        raise
    return stream


def read_text(path: Path, max_bytes: int, error: type[UserError] = PackageError) -> str:
    """Return the text of a file; parameters and errors as for :func:`open_file`, and UTF-8 is expected."""
    with open_file(path, max_bytes, error) as stream:
        content = stream.read(max_bytes + 1)
    if len(content) > max_bytes:  # it grows
        raise error(f"{path}: more than {max_bytes:,} bytes; expected {max_bytes:,} at most")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise error(f"{path}: not UTF-8 text ({problem.reason} at byte {problem.start})") from None


def read_lines(path: Path, error: type[UserError] = PackageError) -> list[str]:
    """Return the lines of a list of words, without their ends; an empty last line is none.

    Raises
    ------
    UserError
        It is no regular file, not UTF-8, or has more or longer lines than :data:`MAX_LINES` and :data:`MAX_LINE_BYTES`.
    OSError
        It is absent, or may not be read.
    """
    text = read_text(path, MAX_LIST_BYTES, error)
    if text.count("\n") > MAX_LINES:
        raise error(f"{path}: {text.count(chr(10)):,} lines; expected {MAX_LINES:,} at most")
    lines = text.split("\n")
    longest = max(range(len(lines)), key=lambda number: len(lines[number]))
    if len(lines[longest]) > MAX_LINE_BYTES:
        raise error(f"{path}, line {longest + 1}: {len(lines[longest]):,} characters; expected {MAX_LINE_BYTES:,} at most")
    return lines[:-1] if lines[-1] == "" else lines


def short_lines(stream: BinaryIO, max_bytes: int, too_long: Callable[[int], Exception]) -> Iterator[bytes]:
    """Yield the lines of a stream with their ends, however large it is, unless one is too long.

    Parameters
    ----------
    stream
        What is read, line by line.
    max_bytes
        The most that a line may have.
    too_long
        Makes the error for a line, by its number.
    """
    number = 0
    while line := stream.readline(max_bytes + 1):
        number += 1
        if len(line) > max_bytes:
            raise too_long(number)
        yield line


_PLAIN_TAGS = frozenset(f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float", "str", "seq", "map"))


class _PlainLoader(yaml.SafeLoader):
    """YAML as a configuration needs it: mappings, lists, texts, numbers, true, false and null.

    Dates are texts. Aliases, by which a small file can describe something huge, other types, a key that is there twice, deep
    nesting and endless numbers are errors.
    """

    yaml_implicit_resolvers = {  # noqa: RUF012 - as PyYAML declares it
        first: [entry for entry in found if entry[0] in _PLAIN_TAGS]
        for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = self._n_nodes = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("an alias (*name), which no file of ours has")
        self._depth += 1
        self._n_nodes += 1
        if self._depth > _MAX_DEPTH or self._n_nodes > _MAX_NODES:
            raise yaml.YAMLError(f"more than {_MAX_DEPTH} levels or {_MAX_NODES:,} values")
        node = super().compose_node(parent, index)
        self._depth -= 1
        if node is not None and node.tag not in _PLAIN_TAGS:
            raise yaml.YAMLError(f"a value of the type {node.tag}, which no file of ours has")
        if isinstance(node, yaml.ScalarNode) and not node.tag.endswith(":str") and len(node.value) > _MAX_NUMBER:
            raise yaml.YAMLError(f"a number of {len(node.value):,} characters")
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        mapping = super().construct_mapping(node, deep)
        if len(mapping) < len(node.value):
            raise yaml.YAMLError("a key that is there twice")
        return mapping


def read_yaml(path: Path, max_bytes: int = MAX_CONFIG_BYTES) -> Any:
    """Return what a YAML file holds: mappings, lists and plain values; no code in it is run.

    Raises
    ------
    PackageError
        It is no regular file, too large, or not YAML of the kind that asr writes.
    OSError
        It is absent, or may not be read.
    """
    text = read_text(path, max_bytes)
    try:
        value = yaml.load(text, Loader=_PlainLoader)  # a SafeLoader
        _check_texts(value)
    except (yaml.YAMLError, ValueError, TypeError, LookupError, RecursionError) as error:
        raise PackageError(f"{path}: not readable as YAML ({_first_line(error)})") from None
    return value


def read_json(path: Path, max_bytes: int) -> Any:
    """Return what a JSON file holds; NaN, infinity and a key that is there twice are errors.

    Raises
    ------
    PackageError
        It is no regular file, too large, or not such JSON.
    OSError
        It is absent, or may not be read.
    """
    text = read_text(path, max_bytes)
    try:
        value = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=unique)
        _check_texts(value)
    except (ValueError, RecursionError) as error:
        raise PackageError(f"{path}: not readable as JSON ({_first_line(error)})") from None
    return value


def check_name(where: Path, key: str, name: str) -> None:
    """Make sure that a path in a package's configuration leads nowhere but into the package.

    Raises
    ------
    PackageError
        It is empty or absolute, or goes up.
    """
    path = PurePosixPath(name)
    if not path.parts or path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name:
        raise PackageError(f"{where}: {key} is {name!r}; expected the path of a file or folder inside the package")


def check_entries(folder: Path, entries: Iterable[Path]) -> None:
    """Make sure that what is in a package is files and folders, none of which lies elsewhere.

    Parameters
    ----------
    folder
        The package's.
    entries
        What to look at; what is below folders is looked at as well. What is absent is nobody's mistake here.

    Raises
    ------
    PackageError
        A link leads out of the package, or something is neither file nor folder, or there is too much to look at.
    """
    inside = folder.resolve()
    waiting = list(entries)
    for n_seen, path in enumerate(_emptied(waiting)):
        if n_seen == _MAX_ENTRIES:
            raise PackageError(f"{folder}: more than {_MAX_ENTRIES:,} files and folders; expected those of a model alone")
        if path.is_symlink() and inside not in Path(os.path.realpath(path)).parents:
            raise PackageError(f"{path}: a link that leads out of the package, to {os.path.realpath(path)}; refused")
        try:
            mode = path.stat().st_mode
        except OSError:  # absent, or a link in a circle
            continue
        if stat.S_ISDIR(mode) and not path.is_symlink():
            waiting += path.iterdir()
        elif not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise PackageError(f"{path}: {_kind(mode)}; expected a file or folder")


def _emptied(waiting: list[Path]) -> Iterator[Path]:
    while waiting:
        yield waiting.pop()


def _check_texts(value: Any, depth: int = 0) -> None:
    """Refuse deep nesting, and texts that cannot be written."""
    if depth > _MAX_DEPTH:
        raise ValueError(f"more than {_MAX_DEPTH} levels")
    if isinstance(value, str):
        value.encode()  # a half of a surrogate pair by itself is a ValueError
    elif isinstance(value, list):
        for item in value:
            _check_texts(item, depth + 1)
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_texts(key, depth + 1)
            _check_texts(item, depth + 1)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object of JSON; a key that is there twice is a ValueError."""
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        raise ValueError("a key that is there twice")
    return mapping


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def _kind(mode: int) -> str:
    names = {stat.S_IFIFO: "a pipe", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device", stat.S_IFDIR: "a folder"}
    return names.get(stat.S_IFMT(mode), "no file")
