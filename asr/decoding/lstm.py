"""The LSTM language model that a decoder's settings name."""

from __future__ import annotations

from pathlib import Path

from asr.config import DecodingConfig
from asr.decoding.lexicon import remembered, state_of
from asr.errors import ConfigError
from asr.language import load_language_model
from asr.language.lstm import LstmModel
from asr.package.parts import find_part


def lstm_path(config: DecodingConfig, folder: Path | None) -> Path:
    """Return the folder of the LSTM's package, looked up in the model package first.

    Raises
    ------
    ConfigError
        The settings name none.
    """
    if config.lstm is None:
        raise ConfigError(
            f"decoding.kind={config.kind} needs decoding.lstm: the folder of an LSTM language model package, as `asr lm train "
            "lm=lstm` writes it"
        )
    return find_part(config.lstm, folder)


def load_lstm(path: Path) -> LstmModel:
    """Read an LSTM language model, or take the one that was read the last time.

    Raises
    ------
    ConfigError
        It is another kind of language model.
    PackageError
        It cannot be read.
    """
    return remembered("lstm", state_of(path), lambda: _load(path))


def _load(path: Path) -> LstmModel:
    model = load_language_model(path)
    if not isinstance(model, LstmModel):
        raise ConfigError(
            f"decoding.lstm={path}: {model.description}; expected an LSTM, as `asr lm train lm=lstm` writes it. N-gram models "
            "are named by decoding.lm"
        )
    return model
