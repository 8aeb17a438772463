"""The text of an LSTM's training: read, cut into units, encoded, with a part kept apart for measuring."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from asr.errors import DataError
from asr.language.config import LstmConfig, LstmTraining
from asr.language.corpus import Corpus, named_sources, prepare_corpus
from asr.language.lstm_data import Tokens, encode
from asr.language.texts import sentences
from asr.language.units import Pieces, Units, check_has_words, plain_units
from asr.language.vocabulary import Vocabulary, limit
from asr.text import Normaliser
from asr.text.bpe import find_pieces

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingText:
    """What is trained on and measured with.

    Attributes
    ----------
    form, units, vocabulary
        The normaliser, how words are cut into units, and the units that are known.
    train
        Encoded sentences.
    dev
        Words of the sentences to measure perplexity on; none where there is no measuring.
    n_sentences, n_words
        Size of the whole text.
    """

    form: Normaliser
    units: Units
    vocabulary: Vocabulary
    train: Tokens
    dev: list[list[str]]
    n_sentences: int
    n_words: int

    @property
    def hash(self) -> str:
        """Hexadecimal digits that change with the text to train on and its vocabulary."""
        digest = hashlib.sha256("\n".join(self.vocabulary.units).encode())
        digest.update(self.train.values.tobytes() + self.train.offsets.tobytes())
        return digest.hexdigest()[:16]

    @property
    def dev_hash(self) -> str | None:
        """Hexadecimal digits that change with the sentences to measure perplexity on; None where there are none."""
        return hashlib.sha256("\n".join(map(" ".join, self.dev)).encode()).hexdigest()[:16] if self.dev else None


def read_training_text(config: LstmTraining, scratch: Path) -> TrainingText:
    """Read what the configuration names.

    Parameters
    ----------
    config
        A checked configuration.
    scratch
        A file to work with; it is gone at the end.

    Raises
    ------
    ConfigError, DataError
        For texts that cannot be used, or too little of them.
    """
    form = Normaliser(config.tokens.alphabet, config.tokens.case, config.tokens.punctuation)
    check_has_words(config.lm.unit, form)
    sources = named_sources(config.text, "text", config.manifests, config.text_ids)
    dev_sources = named_sources(config.dev, "dev", config.manifests, config.text_ids) if config.dev else []
    dev = [sentence.split() for sentence in sentences(dev_sources, form)]
    every = 0 if dev_sources or not config.lm.held_out else round(1 / config.lm.held_out)
    try:
        corpus = prepare_corpus(sources, form, scratch)
        units = _choose_units(config.lm, form, corpus)
        counts = units.count(corpus.counts, corpus.n_sentences)
        vocabulary = limit(counts, config.lm.vocabulary_size, form.alphabet + units.signs)
        train = encode(_part(corpus, every, held_out=False), corpus.n_sentences, units, vocabulary)
        dev = dev or list(_part(corpus, every, held_out=True))
    finally:
        scratch.unlink(missing_ok=True)
    coverage = sum(vocabulary.counts) / sum(counts.values())
    logger.info(
        f"{corpus.n_sentences:,} sentences, {corpus.n_words:,} words; {len(train.values):,} {units.name}s to train on, "
        f"{len(dev):,} sentences to measure on; vocabulary {len(vocabulary):,}, which covers {100 * coverage:.2f} %"
    )
    if len(train.values) + len(train) < 2 * config.lm.rows * config.lm.devices:
        raise DataError(f"{len(train.values)} {units.name}s are too few for lm.rows={config.lm.rows}; lower it, or add text")
    return TrainingText(form, units, vocabulary, train, dev, corpus.n_sentences, corpus.n_words)


def _part(corpus: Corpus, every: int, *, held_out: bool) -> Iterator[list[str]]:
    """Yield every so many-th sentence, which are kept out of training, or the others."""
    for number, sentence in enumerate(corpus.sentences(), start=1):
        if (every > 0 and number % every == 0) == held_out:
            yield sentence


def _choose_units(config: LstmConfig, form: Normaliser, corpus: Corpus) -> Units:
    if config.unit == "word":
        return plain_units("word", form)
    return Pieces(find_pieces(form, config.vocabulary_size, corpus.counts, key="lm.vocabulary_size", source="text"))
