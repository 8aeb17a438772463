"""What `asr lm train` can be told: the fields of an n-gram model's training and of an LSTM's.

The two kinds share texts and normalisation and differ in the section ``lm``, so each has a schema of its own, and a setting
of the other kind is an error. ``lm=NAME`` chooses a file of ``conf/lm/``, whose ``kind`` decides.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from asr.compose import Schema, compose_schema, describe, group_file
from asr.config import MANIFESTS, EngineConfig, TokensConfig
from asr.config_checks import check_ranges
from asr.errors import ConfigError
from asr.option import leaves, option, show
from asr.untrusted import MAX_LINES

MAX_ORDER = 6
"""The longest n-grams that flashlight-text's KenLM was built to read; scripts/build-lmplz builds for them too."""


def _like_transcripts(name: str) -> Any:
    """Declare a field as the section ``tokens`` of `asr train` declares it."""
    entry = next(entry for entry in dataclasses.fields(TokensConfig) if entry.name == name)
    return option(entry.default, **entry.metadata)


@dataclass
class NormaliserConfig:
    """How texts are brought into the form of transcripts."""

    alphabet: str = _like_transcripts("alphabet")
    case: str = _like_transcripts("case")
    punctuation: str = _like_transcripts("punctuation")


@dataclass
class NgramConfig:
    """An n-gram model with modified Kneser-Ney smoothing, counted by KenLM's lmplz."""

    kind: str = option("ngram", "kind of model", choices=("ngram",))
    unit: str = option("word", "what it counts", choices=("word", "character"))
    order: int = option(4, "length of the longest n-grams", low=2, high=MAX_ORDER)
    prune: list[int] = option(
        [0, 0, 1],
        "n-grams counted no more often than this are left out: a number for each length, never falling, the last for all "
        "longer ones; [0] keeps everything",
        low=0,
        high=1000000,
    )
    vocabulary_size: int = option(
        60000,
        "the most frequent words; all others are counted as one, <unk>; 0 is as many as there can be",
        low=0,
        high=MAX_LINES,
    )
    memory_gib: float = option(2.0, "memory for sorting; more than this goes to disk", unit="GiB", low=0.05, high=4096.0)
    format: str = option("binary", "KenLM's binary file, or text in ARPA format", choices=("binary", "arpa"))
    binary: str = option("trie", "trie is smaller; probing is faster and larger", choices=("trie", "probing"))
    quantisation_bits: int = option(8, "bits of each probability and back-off in a trie; 0 is 32 bits", low=0, high=25)


@dataclass
class LstmConfig(EngineConfig):
    """An LSTM over words or pieces of words, trained by truncated backpropagation through time."""

    precision: str = option(
        "auto", "auto is bfloat16 mixed precision where the processor has it", choices=("auto", "float32", "bfloat16")
    )
    kind: str = option("lstm", "kind of model", choices=("lstm",))
    unit: str = option(
        "word", "what it reads and writes; subword is pieces of words (byte-pair encoding)", choices=("word", "subword")
    )
    vocabulary_size: int = option(
        60000,
        "the most frequent words, all others being one, <unk>: the same as an n-gram model's of the same text and size; or the "
        "number of pieces",
        low=3,
        high=MAX_LINES,
    )
    embedding_size: int = option(256, "values that stand for a word, at the input and at the output", low=1, high=8192)
    hidden_size: int = option(512, "units of each LSTM layer", low=1, high=8192)
    layers: int = option(1, "LSTM layers", low=1, high=16)
    dropout: float = option(
        0.1, "dropout of embeddings and after each layer, one mask for all words of a row", low=0.0, high=0.95
    )
    samples: int = option(
        1024, "words drawn for the training loss of each step; 0 is the softmax over all words", low=0, high=1000000
    )
    self_normalisation: float = option(
        0.0,
        "weight in the loss of the squared logarithm of the sum over all units; above 0 decoders take the sum for 1, whose "
        "computation would be most of their work (Devlin et al. 2014, with 0.1)",
        low=0.0,
        high=10.0,
    )
    epochs: int = option(2, "passes over the text", low=1, high=1000)
    rows: int = option(64, "pieces of the text that are read side by side", low=1, high=65536)
    steps: int = option(32, "words of backpropagation through time", low=1, high=4096)
    lr: float = option(3e-3, "peak learning rate of Adam", low=1e-8, high=10.0)
    warmup_fraction: float = option(0.02, "share of all steps over which the rate rises to its peak", low=0.0, high=0.9)
    final_fraction: float = option(0.02, "the last rate as a share of the peak; it falls along a cosine", low=0.0, high=1.0)
    clip_norm: float = option(1.0, "gradients are scaled down to this norm; 0 is off", low=0.0)
    held_out: float = option(
        0.002, "share of the sentences kept out of training, to measure perplexity on where dev is empty", low=0.0, high=0.5
    )
    validations: int = option(4, "measurements of the perplexity on dev in each epoch", low=1, high=1000)
    patience: int = option(
        4, "training ends after so many measurements without an improvement; 0 never ends it", low=0, high=1000000
    )


@dataclass
class TextConfig:
    """What both kinds are told."""

    name: str = option("lm", "name of the model; it appears in folders and in its card")
    output: str = option("runs/lm/${name}", "folder of the language model package")
    text: list[str] = option(
        [], "what to train on: text files, a sentence a line, plain or .xz, .gz, .bz2; or manifests, for their transcripts"
    )
    dev: list[str] = option([], "texts to measure perplexity on, as for text")
    text_ids: bool = option(
        False, "lines of text files begin with an id, which is left out; files named *.trans.txt are always read so"
    )
    manifests: str = option(MANIFESTS, "folder that `asr prepare` wrote its manifests to")
    tokens: NormaliserConfig = field(default_factory=NormaliserConfig)


@dataclass
class NgramTraining(TextConfig):
    """Everything that `asr lm train lm=ngram` can be told."""

    lm: NgramConfig = field(default_factory=NgramConfig)


@dataclass
class LstmTraining(TextConfig):
    """Everything that `asr lm train lm=lstm` can be told."""

    seed: int = option(1, "seeds weights, dropout and negatives", low=0, high=2**32 - 1)
    resume: bool = option(True, "go on from the output folder's last checkpoint where there is one")
    lm: LstmConfig = field(default_factory=LstmConfig)


def check_ngram(config: NgramTraining) -> None:
    """Check ranges and combinations.

    Raises
    ------
    ConfigError
        Naming the key, its value, and what is permitted.
    """
    check_ranges(config)
    _check_text(config)
    prune = config.lm.prune
    if not prune or prune != sorted(prune) or prune[0]:
        raise ConfigError(
            f"lm.prune={show(prune)}: expected 0 for single words, which lm.vocabulary_size limits, then numbers never falling"
        )


def check_lstm(config: LstmTraining) -> None:
    """Check ranges and combinations.

    Raises
    ------
    ConfigError
        Naming the key, its value, and what is permitted.
    """
    check_ranges(config)
    _check_text(config)
    if config.lm.samples >= config.lm.vocabulary_size:
        raise ConfigError(
            f"lm.samples={config.lm.samples}: not fewer than lm.vocabulary_size={config.lm.vocabulary_size}; set lm.samples=0"
        )


def _check_text(config: TextConfig) -> None:
    if not config.output.strip():
        raise ConfigError("output is empty: expected a folder for the language model package")


NGRAM = Schema("lm", NgramTraining, ("lm",), check_ngram)
LSTM = Schema("lm", LstmTraining, ("lm",), check_lstm)
_SCHEMAS: dict[str, Schema[Any]] = {"ngram": NGRAM, "lstm": LSTM}


def compose_training(overrides: Sequence[str] = (), config_dir: Path | str | None = None) -> NgramTraining | LstmTraining:
    """Compose a configuration of `asr lm train`.

    Parameters
    ----------
    overrides
        ``lm=ngram`` (the default), ``lm=lstm`` or a file of one's own, and ``KEY=VALUE``.
    config_dir
        A folder with files ``lm/NAME.yaml`` of one's own.

    Raises
    ------
    ConfigError
        For an unknown key or file, a wrong type, or a value out of range.
    """
    chosen = [text.lstrip("+").partition("=")[2] for text in overrides if text.lstrip("+").startswith("lm=")]
    kind = _kind(chosen[-1] if chosen else "ngram", config_dir)
    schema, other = _SCHEMAS[kind], next(key for key in _SCHEMAS if key != kind)
    for text in overrides:
        key = text.lstrip("+").partition("=")[0]
        if key in leaves(_SCHEMAS[other].type) and key not in leaves(schema.type):
            raise ConfigError(f"{text!r}: {key} is a setting of lm={other}, but this is lm={kind}")
    config: NgramTraining | LstmTraining = compose_schema(schema, overrides, config_dir)
    return config


def _kind(name: str, config_dir: Path | str | None) -> str:
    import yaml

    path = group_file("lm", name, config_dir)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from None
    kind = content.get("kind") if isinstance(content, dict) else None
    if kind not in _SCHEMAS:
        raise ConfigError(f"{path}: expected `kind: ngram` or `kind: lstm`, got {kind!r}")
    return str(kind)


def describe_training(config_dir: Path | str | None = None) -> str:
    """Text of everything that can be set, of both kinds."""
    return "\n\n".join(f"with lm={kind}\n\n{describe(config_dir, schema)}" for kind, schema in _SCHEMAS.items())
