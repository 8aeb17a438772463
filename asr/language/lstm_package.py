"""Writing the packages of LSTM language models."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch

from asr.errors import ConfigError
from asr.file_names import CARD_NAME, CONFIG_NAME, WEIGHTS_NAME
from asr.files import check_apart
from asr.language.card import build_card
from asr.language.config import LstmConfig
from asr.language.lstm import LstmModel
from asr.language.lstm_reading import SELF_NORMALISED, SIZES
from asr.language.ngram import file_hash
from asr.language.package import load_language_model, new_folder, note_hash, write_config
from asr.language.perplexity import Perplexity
from asr.language.units import Pieces
from asr.language.vocabulary import FILE_NAME as VOCABULARY_NAME
from asr.language.vocabulary import Vocabulary
from asr.model.storage import compressed, plain_weights
from asr.text import FILE_NAME as TOKENIZER_NAME
from asr.untrusted import MAX_CARD_BYTES, read_text


def write_lstm(
    folder: Path,
    config: LstmConfig,
    model: LstmModel,
    vocabulary: Vocabulary,
    facts: Mapping[str, Any],
    perplexity: Perplexity | None,
    *,
    name: str,
    shown_folder: str,
) -> None:
    """Write a package, whole or not at all.

    Parameters
    ----------
    folder
        Where it shall lie.
    config, model, vocabulary
        What was trained; the model gets the hash of its file.
    facts
        As for :func:`asr.language.card.build_card`.
    perplexity
        On the dev texts.
    name, shown_folder
        What the card calls the model and its folder.
    """
    assert model.form is not None
    with new_folder(folder) as work:
        file = work / WEIGHTS_NAME
        file.write_bytes(safetensors.torch.save(plain_weights(model.network)))
        vocabulary.save(work)
        if isinstance(model.units, Pieces):
            model.units.tokenizer.save(work)
        sizes = {key: getattr(config, key) for key in SIZES}
        sizes |= {SELF_NORMALISED: True} if model.self_normalised else {}
        write_config(work, file, kind="lstm", unit=model.unit, form=model.form, model=sizes, training=facts)
        model.hash = file_hash(file)[:12]
        (work / CARD_NAME).write_text(build_card(name, model, facts, perplexity, shown_folder), encoding="utf-8")


def compress_lstm(folder: Path, target: Path, storage: str) -> Path:
    """Write a copy of an LSTM's package whose weights take fewer bits; it is read back in float32.

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
        It cannot be read, or a weight is too large.
    ConfigError
        It is an n-gram model, or the copy may not lie there.
    """
    model = load_language_model(folder)
    if not isinstance(model, LstmModel):
        raise ConfigError(f"{folder}: {model.description}; only an LSTM's weights can be stored in fewer bits")
    folder, target = folder.resolve(), Path(target).resolve()
    check_apart(target, folder)
    stored = compressed(plain_weights(model.network), storage, str(folder))
    with new_folder(target) as work:
        for name in (CONFIG_NAME, VOCABULARY_NAME, TOKENIZER_NAME):
            if (folder / name).is_file():
                shutil.copyfile(folder / name, work / name)
        (work / WEIGHTS_NAME).write_bytes(safetensors.torch.save(stored))
        note_hash(work, work / WEIGHTS_NAME)
        if (folder / CARD_NAME).is_file():  # the signature in it ends with the hash
            card = read_text(folder / CARD_NAME, MAX_CARD_BYTES).replace(model.hash, file_hash(work / WEIGHTS_NAME)[:12])
            (work / CARD_NAME).write_text(card, encoding="utf-8")
    return target
