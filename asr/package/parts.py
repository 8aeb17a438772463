"""The files of a model package, and its configuration: what can be known of it without its weights, and so without torch."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from asr.config import Config, DecodingConfig
from asr.config_mapping import from_mapping
from asr.errors import ConfigError, PackageError
from asr.file_names import CARD_NAME, CONFIG_NAME, WEIGHTS_NAME
from asr.files import tidy
from asr.text import FILE_NAME as TOKENIZER_NAME
from asr.untrusted import MAX_CARD_BYTES, check_entries, check_name, read_text, read_yaml
from asr.version import __version__

FORMAT = 1
LANGUAGE_NAME = "language"
TUNING_NAME = "tuning"
_PARTS = (CONFIG_NAME, WEIGHTS_NAME, TOKENIZER_NAME)
ENTRIES = frozenset({*_PARTS, CARD_NAME, LANGUAGE_NAME, TUNING_NAME})
"""Of a package's folder: what asr writes into it."""

SECTIONS = ("tokens", "frontend", "model", "decoding")


def check_parts(folder: Path) -> None:
    """Make sure that a folder has the files of a model package, and that none of them lies elsewhere.

    Raises
    ------
    PackageError
        Where it has not, naming the file.
    """
    if not folder.exists():
        tidy(folder.absolute().parent)  # it may have been moved away by a process that was killed before the new one was there
    if not folder.exists():
        raise PackageError(f"{folder}: no such folder; a model package is a folder that `asr train` wrote, runs/NAME/package")
    if not folder.is_dir():
        raise PackageError(f"{folder}: a file; expected the folder of a model package, as `asr train` writes it")
    absent = [name for name in _PARTS if not (folder / name).is_file()]
    if absent:
        nested = folder / "package"
        hint = f"; did you mean {nested}?" if (nested / CONFIG_NAME).is_file() else "; it is no model package, or incomplete"
        raise PackageError(f"{folder}: {', '.join(absent)} not found{hint}")
    check_entries(folder, [folder / name for name in (*_PARTS, CARD_NAME, LANGUAGE_NAME)])


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
    mapping = read_yaml(path)
    if not isinstance(mapping, dict) or "format" not in mapping:
        raise PackageError(f"{path}: not the configuration of a model package: it has no 'format' key")
    if mapping["format"] != FORMAT:
        raise PackageError(
            f"{path}: format {repr(mapping['format'])[:40]}, but asr {__version__} reads format {FORMAT}; another version "
            "wrote it"
        )
    facts = mapping.get("training", {})
    unknown = [str(key) for key in mapping if key not in ("format", "name", "training", *SECTIONS)]
    if unknown or not isinstance(facts, dict):
        shown = ", ".join(key[:40] for key in unknown[:5])
        raise PackageError(f"{path}: unknown key {shown}" if unknown else f"{path}: 'training' is not a mapping")
    absent = [key for key in ("name", *SECTIONS) if key not in mapping]
    if absent:
        raise PackageError(f"{path}: {', '.join(absent)} not found")
    # The schema's reader would resolve ${...}, environment variables included.
    if "${" in json.dumps(mapping, default=str):
        raise PackageError(f"{path}: holds an interpolation (${{...}}); a package holds plain values only")
    try:
        config = from_mapping({key: mapping[key] for key in ("name", *SECTIONS)})
    except ConfigError as error:
        raise PackageError(f"{path}: {error}") from None
    return dataclasses.replace(config, decoding=_contained(path, config.decoding)), facts


def _contained(path: Path, config: DecodingConfig) -> DecodingConfig:
    """Return a package's decoder, which uses nothing but what is in the package, and no more processes than are of use."""
    for field in ("lm", "lstm", "lexicon_file"):
        name = getattr(config, field)
        if name is None:
            continue
        check_name(path, f"decoding.{field}", name)
        if not (path.parent / name).exists():
            raise PackageError(f"{path}: decoding.{field} is {name!r}, but {path.parent / name} is not there; copy it again")
        parts = PurePosixPath(name).parts
        check_entries(path.parent, [path.parent.joinpath(*parts[:n]) for n in range(1, len(parts) + 1)])
    return dataclasses.replace(config, jobs=min(config.jobs, os.cpu_count() or 1))


def other_decoder(folder: Path, target: Path) -> bool:
    """Say whether there is another package with a decoder whose settings are not this one's."""
    if not (target / CONFIG_NAME).is_file():
        return False
    try:
        (ours, _), (theirs, _) = (read_config(place / CONFIG_NAME) for place in (folder, target))
    except (PackageError, OSError):
        return False  # whoever reads or replaces them says what is wrong
    return ours.decoding != theirs.decoding


def find_part(name: str, folder: Path | None) -> Path:
    """Return the path of a file or folder that a decoder's setting names: in the model package if it is there."""
    inside = folder / name if folder is not None else None
    return inside if inside is not None and inside.exists() else Path(name)


def read_card(folder: Path) -> str:
    """Return the text of a package's card; empty where it has none.

    Raises
    ------
    PackageError
        It is no file, too large, or not UTF-8.
    """
    path = folder / CARD_NAME
    return read_text(path, MAX_CARD_BYTES) if path.exists() else ""
