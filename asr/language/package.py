"""Language model packages: a folder that holds all of a language model, and that cannot run code.

=============================  =======================================================================
``config.yaml``                format version, kind, unit, normaliser, hash of the model, facts
``ngram.bin``, ``ngram.arpa``  an n-gram model in one of KenLM's formats
``model.safetensors``          an LSTM's weights
``vocabulary.txt``             its units, most frequent first, with their counts
``README.md``                  the card: what it is, how good, how to use it
=============================  =======================================================================
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from asr.errors import ConfigError, PackageError
from asr.file_names import CARD_NAME, CONFIG_NAME, WEIGHTS_NAME
from asr.files import foreign_entry, replacing_folder
from asr.language.kenlm import check_file, read_header
from asr.language.model import LanguageModel
from asr.language.ngram import NgramModel, file_hash, load_kenlm
from asr.language.units import Characters, Pieces, Units, Words, plain_units
from asr.language.vocabulary import FILE_NAME as VOCABULARY_NAME
from asr.language.vocabulary import read_vocabulary
from asr.text import FILE_NAME as TOKENIZER_NAME
from asr.text import Normaliser
from asr.untrusted import check_entries, read_yaml
from asr.version import __version__

FORMAT = 1
NGRAM_NAMES = {"binary": "ngram.bin", "arpa": "ngram.arpa"}
LOG_NAME = "train.log"
_ENTRIES = frozenset({CONFIG_NAME, CARD_NAME, *NGRAM_NAMES.values(), WEIGHTS_NAME, VOCABULARY_NAME, TOKENIZER_NAME, LOG_NAME})
_KENLM_SUFFIXES = (".arpa", ".arpa.gz", ".bin", ".binary", ".mmap", ".klm")
_KEYS = {"format", "kind", "unit", "file", "sha256", "tokens", "model", "training"}


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Give a working folder whose contents take the place of ``folder`` when the block ends without an error.

    Raises
    ------
    ConfigError
        The folder holds something other than a language model package.
    """
    check_replaceable(folder)
    with replacing_folder(folder) as work:
        yield work


def check_replaceable(folder: Path) -> None:
    """Make sure that a package may be written there: nothing, an empty folder or a language model package is there now.

    Raises
    ------
    ConfigError
        The folder holds something else, or is a file.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    foreign = foreign_entry(folder, _ENTRIES)
    if foreign is None and is_language_package(folder):
        return
    what = f", which holds {foreign}" if foreign is not None else ""
    raise ConfigError(f"{folder} exists and is not a language model package{what}; remove it or choose another output")


def write_config(
    folder: Path, file: Path, *, kind: str, unit: str, form: Normaliser, model: Mapping[str, Any], training: Mapping[str, Any]
) -> None:
    """Write ``config.yaml``.

    Parameters
    ----------
    folder
        The package's.
    file
        The model's file, of which the hash is noted.
    kind, unit
        ``ngram`` or ``lstm``; what it reads and writes.
    form
        Brings text into the form that it was trained on.
    model
        What is needed to build it again.
    training
        Facts for readers.
    """
    content = {
        "format": FORMAT,
        "kind": kind,
        "unit": unit,
        "file": file.name,
        "sha256": file_hash(file),
        "tokens": form.settings,
        "model": dict(model),
        "training": {"asr": __version__, **training},
    }
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)
    (folder / CONFIG_NAME).write_text(text, encoding="utf-8")


def note_hash(folder: Path, file: Path) -> None:
    """Write into a package's ``config.yaml`` what the hash of its model's file now is."""
    content = {**_read_config(folder), "sha256": file_hash(file)}
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)
    (folder / CONFIG_NAME).write_text(text, encoding="utf-8")


def is_language_package(folder: Path) -> bool:
    """Say whether a folder looks like a language model package."""
    return (folder / CONFIG_NAME).is_file() and (folder / VOCABULARY_NAME).is_file()


def load_language_model(path: Path | str, device: str = "cpu") -> LanguageModel:
    """Read a language model.

    Parameters
    ----------
    path
        Folder of a language model package, or a KenLM file (ARPA, gzipped or not, or binary) from elsewhere, whose words are
        taken as they stand.
    device
        Where an LSTM runs; n-gram models have no use for it.

    Returns
    -------
    LanguageModel
        An :class:`asr.language.ngram.NgramModel` or :class:`asr.language.lstm.LstmModel`.

    Raises
    ------
    PackageError
        There is none, or it is incomplete, corrupt or not one of ours.
    """
    path = Path(path)
    if path.is_file():
        return load_kenlm(path)
    if not path.is_dir():
        kinds = ", ".join(_KENLM_SUFFIXES)
        raise PackageError(f"{path}: not found; expected the folder of a language model package, or a KenLM file ({kinds})")
    check_entries(path, [path / name for name in (CONFIG_NAME, VOCABULARY_NAME, TOKENIZER_NAME)])
    config = _read_config(path)
    form = _read_form(path, config)
    file = _find_file(path, config)
    if config["kind"] == "ngram":
        header = read_header(file)
        check_file(file, header)
        digest = _check_hash(file, config)
        words = read_vocabulary(path).units
        if len(words) > header.counts[0]:
            raise PackageError(
                f"{path / VOCABULARY_NAME}: {len(words):,} words, but {file.name} has {header.counts[0]:,}; copy it again"
            )
        return NgramModel(file, header, _read_units(path, config, form), words, form, digest)
    from asr.language.lstm_reading import read_lstm, read_units  # they need torch

    units = read_units(path) if config["unit"] == Pieces.name else _read_units(path, config, form)
    model = read_lstm(file, config["model"], units, read_vocabulary(path).units, form, device)
    _check_hash(file, config)
    return model


def _find_file(folder: Path, config: Mapping[str, Any]) -> Path:
    """Return the model's own file."""
    allowed = [WEIGHTS_NAME] if config["kind"] == "lstm" else [*NGRAM_NAMES.values()]
    if config["file"] not in allowed:
        found = repr(config["file"])[:80]
        raise PackageError(f"{folder / CONFIG_NAME}: file is {found}; expected {' or '.join(allowed)}")
    file = folder / str(config["file"])
    check_entries(folder, [file])
    if not file.is_file():
        raise PackageError(f"{file}: not found; the package is incomplete: copy it again")
    return file


def _check_hash(file: Path, config: Mapping[str, Any]) -> str:
    """Compare a file with the hash of what was written, and return it; whoever changes both is not found so."""
    found, expected = file_hash(file), repr(config["sha256"])[1:-1]
    if found != expected:
        raise PackageError(
            f"{file}: its content is not what {CONFIG_NAME} says (SHA-256 {found[:12]}, expected {expected[:12]}); it is "
            "truncated or was changed: copy the package again"
        )
    return found


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG_NAME
    try:
        config = read_yaml(path)
    except FileNotFoundError:
        raise PackageError(f"{path}: not found; {folder} is no language model package, or incomplete") from None
    except OSError as error:
        raise PackageError(f"{path}: cannot be read: {error.strerror or error}") from None
    if not isinstance(config, dict) or config.get("kind") not in ("ngram", "lstm"):
        raise PackageError(f"{path}: not the configuration of a language model package (kind: ngram or lstm)")
    if config.get("format") != FORMAT:
        found = repr(config.get("format"))[:40]
        raise PackageError(f"{path}: format {found}, but asr {__version__} reads format {FORMAT}")
    if config.keys() != _KEYS:
        found = ", ".join(sorted(map(str, config)))[:200]
        raise PackageError(f"{path}: expected the keys {', '.join(sorted(_KEYS))}; got {found}")
    return config


def _read_form(folder: Path, config: Mapping[str, Any]) -> Normaliser:
    path = folder / CONFIG_NAME
    tokens = config["tokens"]
    names = {"alphabet", "case", "punctuation"}
    if not isinstance(tokens, dict) or tokens.keys() != names or not all(isinstance(value, str) for value in tokens.values()):
        raise PackageError(f"{path}: tokens: expected the texts alphabet, case and punctuation")
    try:
        return Normaliser(**tokens)
    except ConfigError as error:
        raise PackageError(f"{path}: {error}") from None


def _read_units(folder: Path, config: Mapping[str, Any], form: Normaliser) -> Units:
    path = folder / CONFIG_NAME
    if config["unit"] not in (Words.name, Characters.name):
        raise PackageError(f"{path}: unit is {config['unit']!r}; expected word, character, or in an LSTM's package subword")
    try:
        return plain_units(str(config["unit"]), form)
    except ConfigError as error:
        raise PackageError(f"{path}: {error}") from None
