"""The files of a model package, and its configuration: what can be known of it without its weights, and so without torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

import asr
from asr.config import Config
from asr.config_mapping import from_mapping
from asr.errors import ConfigError, PackageError
from asr.text import FILE_NAME as TOKENIZER_NAME

FORMAT = 1
CONFIG_NAME = "config.yaml"
WEIGHTS_NAME = "model.safetensors"
CARD_NAME = "README.md"
LANGUAGE_NAME = "language"
_PARTS = (CONFIG_NAME, WEIGHTS_NAME, TOKENIZER_NAME)
SECTIONS = ("tokens", "frontend", "model", "decoding")
# A hundred times what a config.yaml of ours takes; a hostile one is refused before it is parsed.
_MAX_TEXT_BYTES = 1 << 18
# A tokenizer.json may hold a dictionary of pronunciations (one like CMUdict takes 1 MiB) or 65,536 pieces of words.
_MAX_TOKENIZER_BYTES = 1 << 23


def check_parts(folder: Path) -> None:
    """Make sure that a folder has the files of a model package, of a size that can be, with none that lies elsewhere.

    Raises
    ------
    PackageError
        Where it has not, naming the file.
    """
    if not folder.exists():
        raise PackageError(f"{folder}: no such folder; a model package is a folder that `asr train` wrote, runs/NAME/package")
    if not folder.is_dir():
        raise PackageError(f"{folder}: a file; expected the folder of a model package, as `asr train` writes it")
    absent = [name for name in _PARTS if not (folder / name).is_file()]
    if absent:
        nested = folder / "package"
        hint = f"; did you mean {nested}?" if (nested / CONFIG_NAME).is_file() else "; it is no model package, or incomplete"
        raise PackageError(f"{folder}: {', '.join(absent)} not found{hint}")
    inside = folder.resolve()
    for path in (*(folder / name for name in _PARTS), folder / LANGUAGE_NAME, *(folder / LANGUAGE_NAME).rglob("*")):
        if inside not in path.resolve().parents:
            raise PackageError(f"{path}: a link that leads out of the package, to {path.resolve()}; refused")
    for name in _PARTS:
        path = folder / name
        limit = {CONFIG_NAME: _MAX_TEXT_BYTES, TOKENIZER_NAME: _MAX_TOKENIZER_BYTES}.get(name)
        if limit is not None and path.stat().st_size > limit:
            raise PackageError(f"{path}: {path.stat().st_size} bytes; expected {limit} at most")


class _PlainLoader(yaml.SafeLoader):
    """YAML without aliases, by which a small file can describe something huge."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("an alias (*name), which no config.yaml of ours has")
        return super().compose_node(parent, index)


def read_config(path: Path) -> tuple[Config, Mapping[str, Any]]:
    """Read a package's ``config.yaml``; no code in it is run.

    Returns
    -------
    config : Config
        The checked configuration.
    facts : Mapping[str, Any]
        What training noted: version, manifests and the like.

    Raises
    ------
    PackageError
        Where it is not YAML, not of this version's format, or holds what cannot be.
    """
    try:
        text = path.read_text(encoding="utf-8")
        mapping = yaml.load(text, Loader=_PlainLoader)  # a SafeLoader
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise PackageError(f"{path}: not readable as YAML ({str(error).splitlines()[0]})") from None
    if not isinstance(mapping, dict) or "format" not in mapping:
        raise PackageError(f"{path}: not the configuration of a model package: it has no 'format' key")
    if mapping["format"] != FORMAT:
        raise PackageError(
            f"{path}: format {mapping['format']!r}, but asr {asr.__version__} reads format {FORMAT}; another version wrote it"
        )
    facts = mapping.get("training", {})
    unknown = [str(key) for key in mapping if key not in ("format", "name", "training", *SECTIONS)]
    if unknown or not isinstance(facts, dict):
        raise PackageError(f"{path}: unknown key {', '.join(unknown)}" if unknown else f"{path}: 'training' is not a mapping")
    absent = [key for key in ("name", *SECTIONS) if key not in mapping]
    if absent:
        raise PackageError(f"{path}: {', '.join(absent)} not found")
    # The schema's reader would resolve ${...}, environment variables included.
    if "${" in json.dumps(mapping, default=str):
        raise PackageError(f"{path}: holds an interpolation (${{...}}); a package holds plain values only")
    try:
        return from_mapping({key: mapping[key] for key in ("name", *SECTIONS)}), facts
    except ConfigError as error:
        raise PackageError(f"{path}: {error}") from None
