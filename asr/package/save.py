"""Model packages are written, changed and compressed: whole or not at all."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import yaml

from asr.config import Config, DecodingConfig
from asr.errors import PackageError
from asr.file_names import CARD_NAME, CONFIG_NAME, WEIGHTS_NAME
from asr.files import check_apart, foreign_entry, make_folder, replacing_folder
from asr.language.lstm_package import compress_lstm
from asr.model.acoustic import SpeechModel
from asr.model.storage import check_finite, compressed, plain_weights
from asr.package.load import read_package
from asr.package.parts import ENTRIES, FORMAT, LANGUAGE_NAME, SECTIONS, find_part
from asr.text import FILE_NAME as TOKENIZER_NAME
from asr.text import Tokenizer
from asr.untrusted import read_yaml
from asr.version import __version__


def write_package(
    folder: Path,
    config: Config,
    model: SpeechModel,
    tokenizer: Tokenizer,
    card: str,
    facts: Mapping[str, Any] | None = None,
) -> Path:
    """Write a model package whole or not at all, in place of one that may be there.

    Language models and the lexicon that the decoder's settings name are copied into it.

    Parameters
    ----------
    folder
        Where it shall lie; its parents are made.
    config, model, tokenizer
        What was trained.
    card
        Text of ``README.md``, as from :func:`asr.package.card.build_card`.
    facts
        Plain values (texts, numbers, lists of them) about the training, kept in ``config.yaml``.

    Raises
    ------
    PackageError
        Where a weight is not finite, a language model or lexicon is not there, or the folder holds something other than a
        package.
    """
    folder = Path(folder)
    check_replaceable(folder)
    decoding, copies = self_contained(config.decoding, folder)
    config = dataclasses.replace(config, decoding=decoding)
    # What the package that is replaced has already.
    copies |= {
        path: folder / path for path in (decoding.lm, decoding.lstm, decoding.lexicon_file) if path and path not in copies
    }
    for path, source in copies.items():
        if not source.exists():
            raise PackageError(f"{source}: not found; the decoder's settings name it, so the package needs it as {path}")
    weights = plain_weights(model)
    check_finite(weights, str(folder))
    with replacing_folder(folder) as temporary:
        (temporary / CONFIG_NAME).write_text(_config_yaml(config, facts or {}), encoding="utf-8")
        (temporary / WEIGHTS_NAME).write_bytes(safetensors.torch.save(weights))
        tokenizer.save(temporary)
        (temporary / CARD_NAME).write_text(card, encoding="utf-8")
        for path, source in copies.items():
            _put(temporary / path, source)
    return folder


def self_contained(config: DecodingConfig, folder: Path) -> tuple[DecodingConfig, dict[str, Path]]:
    """Return the settings with paths inside the package, and what has to be copied there, by those paths.

    Parameters
    ----------
    config
        Settings whose paths count from the package, or where nothing is there, from the working folder.
    folder
        The package's folder.
    """
    names = {"lm": f"{LANGUAGE_NAME}/ngram", "lstm": f"{LANGUAGE_NAME}/lstm", "lexicon_file": f"{LANGUAGE_NAME}/lexicon.tsv"}
    inside: dict[str, Any] = {}
    copies: dict[str, Path] = {}
    for field, name in names.items():
        given = getattr(config, field)
        if given is None:
            continue
        source = find_part(given, folder).resolve()
        if folder.resolve() in source.parents:
            inside[field] = source.relative_to(folder.resolve()).as_posix()
            continue
        # A bare KenLM file keeps its suffix, which says what it is.
        suffix = "".join(source.suffixes[-2:]) if source.suffix == ".gz" else source.suffix
        inside[field] = name if source.is_dir() or field == "lexicon_file" else name + suffix
        copies[inside[field]] = source
    return dataclasses.replace(config, **inside), copies


def check_replaceable(folder: Path) -> None:
    """Make sure that a package may be written there: nothing, an empty folder or a package is there now.

    Raises
    ------
    PackageError
        The folder holds something else, or is a file.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if folder.is_dir() and (foreign := foreign_entry(folder, ENTRIES)) is None and _looks_like_a_package(folder):
        return
    what = f", which holds {foreign}" if folder.is_dir() and foreign else ""
    raise PackageError(f"{folder} exists and is not a model package{what}; remove it or choose another folder")


def update_package(
    folder: Path,
    config: Config,
    card: str,
    *,
    files: Mapping[str, Path | bytes] | None = None,
    facts: Mapping[str, Any] | None = None,
) -> Path:
    """Change the configuration and the card of a model package and add files to it, whole or not at all.

    Parameters
    ----------
    folder
        The package's folder.
    config, card, facts
        What takes the place of the old ones, as for :func:`write_package`. The weights and the tokenizer stay.
    files
        By path inside the package, in place of what may be there: contents, or a file or folder that is copied.

    Raises
    ------
    PackageError
        Where it may not be written to.
    """
    folder = Path(folder).resolve()
    check_updatable(folder)
    with replacing_folder(folder) as temporary:
        shutil.copytree(folder, temporary, symlinks=True, dirs_exist_ok=True, ignore=_not_files)
        texts = {CONFIG_NAME: _config_yaml(config, facts or {}), CARD_NAME: card}
        for name, content in {**(files or {}), **{name: text.encode() for name, text in texts.items()}}.items():
            _put(temporary / name, content)
    return folder


def compress_package(folder: Path, target: Path, storage: str) -> Path:
    """Write a copy of a model package whose weights take fewer bits, an LSTM language model's too; it is read back in float32.

    Parameters
    ----------
    folder
        The package, which stays as it is.
    target
        Where the copy shall lie, whole or not at all, in place of a package that may be there.
    storage
        One of :data:`asr.model.storage.STORAGES`.

    Raises
    ------
    PackageError
        Where the package cannot be read, something else lies at the target, or a weight is too large.
    ConfigError
        One of package and copy would lie in the other.
    """
    package = read_package(folder)
    folder, target = package.folder.resolve(), Path(target).resolve()
    check_apart(target, folder)
    check_replaceable(target)
    stored = compressed(plain_weights(package.model), storage, str(folder))
    with replacing_folder(target) as temporary:
        shutil.copytree(folder, temporary, symlinks=True, dirs_exist_ok=True, ignore=_not_files)
        _put(temporary / WEIGHTS_NAME, safetensors.torch.save(stored))
        if (lstm := package.config.decoding.lstm) is not None and (temporary / lstm).is_dir():
            compress_lstm(folder / lstm, temporary / lstm, storage)
    return target


def check_updatable(folder: Path) -> None:
    """Make sure that a package can be changed, before work is done for it.

    Raises
    ------
    PackageError
        It, or the folder in which it lies, may not be written to.
    """
    folder = Path(folder).resolve()
    for place in (folder, folder.parent):
        if not os.access(place, os.W_OK | os.X_OK):
            raise PackageError(
                f"{place}: read-only, so the package {folder.name} cannot change; change the permissions or copy it elsewhere"
            )


def _not_files(folder: str, names: list[str]) -> list[str]:
    """Return what lies in a package and is neither file nor folder nor link: a pipe would be read for ever."""
    paths = {name: os.path.join(folder, name) for name in names}
    return [name for name, path in paths.items() if not (os.path.isfile(path) or os.path.isdir(path) or os.path.islink(path))]


def _put(path: Path, content: Path | bytes) -> None:
    """Write a file, or copy a file or folder, in place of what is there."""
    make_folder(path.parent)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content.is_dir():
        shutil.copytree(content, path)
    else:
        shutil.copyfile(content, path)


def _looks_like_a_package(folder: Path) -> bool:
    """Say whether it has a package's configuration, as no run and no language model has, or its weights and tokenizer."""
    if (folder / WEIGHTS_NAME).is_file() and (folder / TOKENIZER_NAME).is_file():
        return True
    try:
        found = read_yaml(folder / CONFIG_NAME)
    except (OSError, PackageError):
        return False
    return isinstance(found, dict) and {"format", *SECTIONS} <= found.keys()


def _config_yaml(config: Config, facts: Mapping[str, Any]) -> str:
    mapping: dict[str, Any] = {"format": FORMAT, "name": config.name}
    mapping.update({section: dataclasses.asdict(getattr(config, section)) for section in SECTIONS})
    mapping["training"] = {"asr": __version__, **facts}
    return yaml.safe_dump(mapping, sort_keys=False, allow_unicode=True, width=120)
