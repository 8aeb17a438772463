"""Models that ship with asr, folders below ``asr/models``, and how a model is named.

Nothing heavy is imported before it is used, and torch not at all.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asr.errors import ConfigError, PackageError
from asr.option import nearest

DEFAULT = "english"
"""Name of the model that is used where none is named."""

VARIABLE = "ASR_MODEL"
"""Environment variable that names another one."""

HOW_TO_GET_ONE = (
    "A model package is what `asr train` writes to runs/NAME/package; scripts/quickstart trains a small one in minutes"
)


@dataclass(frozen=True)
class ShippedModel:
    """What is known of a model that ships with asr without reading its weights.

    Attributes
    ----------
    name
        What to call it, in place of a path.
    folder
        Its model package.
    n_bytes
        Size of all its files.
    title
        First line of its card; empty where it has none.
    facts
        What training noted: version, manifests and the like; empty where it is broken.
    error
        Why it cannot be used, or ``None``.
    """

    name: str
    folder: Path
    n_bytes: int
    title: str
    facts: Mapping[str, Any]
    error: str | None

    def read_card(self) -> str:
        """Return the text of its card.

        Raises
        ------
        PackageError
            Where the package is broken or has none.
        """
        if self.error is not None:
            raise PackageError(self.error)
        from asr.package.parts import read_card

        card = read_card(self.folder).lstrip()
        if not card:
            raise PackageError(f"{self.folder}: has no README.md, the card of a model package; install asr again")
        return card


def models_dir() -> Path:
    """Return the folder of the models that ship with asr; it need not be there."""
    return Path(__file__).resolve().parents[1] / "models"


def list_models() -> list[ShippedModel]:
    """Return the models that ship with asr, the broken ones as well, by name."""
    return [_look_at(name, folder) for name, folder in _folders().items()]


def find_model(name_or_path: str | Path | None = None) -> Path:
    """Return the folder of a model package.

    Parameters
    ----------
    name_or_path
        Its path, or the name of a model that ships with asr; a folder of that very path comes first. Where it is left out, the
        environment variable ``ASR_MODEL`` says so, and where that is not set, it is the default model.

    Raises
    ------
    ConfigError
        For a name that is nearly that of a model that ships with asr, or where none is named and the default does not ship.
    """
    if name_or_path is not None and not str(name_or_path):
        raise ConfigError("the model's name is empty; expected that of a model package's folder, or one of `asr models`")
    shipped = _folders()
    name = (os.environ.get(VARIABLE) or None) if name_or_path is None else str(name_or_path)
    if name is None:
        if DEFAULT not in shipped:
            raise ConfigError(f"no model is named: give --model PATH or set {VARIABLE}. {HOW_TO_GET_ONE}")
        return shipped[DEFAULT]
    path = Path(name)
    if path.is_dir():
        return path
    if name in shipped:
        return shipped[name]
    hint = nearest(name, shipped)
    if hint and path.name == name and not path.exists():
        where = name if name_or_path is not None else f"{VARIABLE}={name}"
        raise ConfigError(
            f"{where}: no such folder, and no model of that name ships with asr.{hint} There are: {', '.join(shipped)}"
        )
    return path


def _folders() -> dict[str, Path]:
    """Return the folders of the models that ship with asr, by name."""
    place = models_dir()
    found = sorted(place.iterdir()) if place.is_dir() else []
    return {path.name: path for path in found if path.is_dir() and not path.name.startswith((".", "_"))}


def _look_at(name: str, folder: Path) -> ShippedModel:
    from asr.file_names import CONFIG_NAME
    from asr.package.parts import check_parts, read_card, read_config

    facts: Mapping[str, Any] = {}
    error, card = None, ""
    try:
        card = read_card(folder)  # which says what the model is, whatever else is wrong
        check_parts(folder)
        _, facts = read_config(folder / CONFIG_NAME)
    except (PackageError, OSError) as problem:
        error = str(problem)
    n_bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    first = next(iter(card.lstrip().splitlines()), "")
    return ShippedModel(name, folder, n_bytes, first.lstrip("# "), facts, error)
