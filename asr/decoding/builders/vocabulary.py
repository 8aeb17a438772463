"""From words, hot words and a language model to the vocabulary of a prefix beam search."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from asr.config import DecodingConfig
from asr.decoding.builders.hot_words import HotWord, spell_hot_words
from asr.decoding.builders.lexicon import LabelledLexicon, in_form_of
from asr.decoding.scorers.loading import load_lstm
from asr.decoding.scorers.lstm import LstmWords
from asr.decoding.scorers.ngram import NgramWords
from asr.decoding.scorers.word_models import Weighted
from asr.decoding.search.trie import Entry, closed_trie, open_trie
from asr.decoding.search.vocabulary import SearchVocabulary
from asr.language.units import UNKNOWN
from asr.text import Tokenizer
from asr.text.bpe import WORD_START


def hot_word_vocabulary(config: DecodingConfig, tokenizer: Tokenizer) -> SearchVocabulary | None:
    """Return the hot words as a vocabulary beside which everything else can be written, or None where there are none.

    Raises
    ------
    ConfigError
        For a hot word that the model cannot write.
    """
    hot = spell_hot_words(config.hot_words, tokenizer, {})
    if not hot:
        return None
    bonuses = [config.hot_word_score * word.weight for word in hot]
    entries = [
        Entry(tokens, label, bonus=bonus)
        for label, (word, bonus) in enumerate(zip(hot, bonuses, strict=True), start=1)
        for tokens in word.spellings
    ]
    spaceless = tokenizer.boundary is None and not any(name.startswith(WORD_START) for name in tokenizer.token_names)
    starts = np.array([spaceless or name.startswith(WORD_START) for name in tokenizer.token_names])
    trie = open_trie(entries, len(tokenizer), tokenizer.boundary, starts=starts)
    return SearchVocabulary(trie, [0.0, *bonuses])


def lexicon_vocabulary(
    config: DecodingConfig,
    tokenizer: Tokenizer,
    words: LabelledLexicon,
    hot: Sequence[HotWord],
    *,
    ngram: Path | None = None,
    lstm: Path | None = None,
) -> tuple[SearchVocabulary, tuple[str, ...]]:
    """Return the vocabulary of a search among words, and the text of each of its labels.

    Parameters
    ----------
    config
        The decoder's settings.
    tokenizer
        The model's.
    words
        The lexicon.
    hot
        Hot words. Those that the lexicon lacks, and phrases, get labels of their own.
    ngram, lstm
        KenLM file, and folder of an LSTM's package, of language models over words; None for none.
    """
    n_words = len(words.texts)
    labels: dict[str, list[int]] = {}
    for label, text in enumerate(words.texts, start=1):
        labels.setdefault(text, []).append(label)
    bonuses = np.zeros(1 + n_words)
    names: list[tuple[str, ...]] = [(UNKNOWN,), *((name,) for name in words.names)]
    new: list[HotWord] = []
    for word in hot:
        known = labels.get(word.words[0], []) if len(word.words) == 1 else []
        bonuses[known] = config.hot_word_score * word.weight
        if not known:
            new.append(word)
            names.append(tuple(words.names[labels[part][0] - 1] if part in labels else part for part in word.words))
    bonuses = np.append(bonuses, [config.hot_word_score * word.weight for word in new])
    strangers = {part for word in new for part in word.words if part not in labels}
    texts = (*words.texts, *(" ".join(word.words) for word in new))
    models: dict[str, Weighted] = {}
    if ngram is not None:
        models["ngram"] = NgramWords(ngram, names, strangers), config.lm_weight
    if lstm is not None:
        models["lstm"] = LstmWords(lstm, in_form_of(load_lstm(lstm), texts, tokenizer)), config.lstm_weight
    values = config.word_score * np.array([len(parts) for parts in names], dtype=float)
    values[0] += config.unknown_score
    extras = values + bonuses
    for model, weight in models.values():
        values += weight * np.array(model.unigrams())
    spellings = words.spellings() + [
        (tokens, label) for label, word in enumerate(new, start=1 + n_words) for tokens in word.spellings
    ]
    entries = [Entry(tokens, label, float(values[label]), float(bonuses[label])) for tokens, label in spellings]
    n_tokens, boundary = len(tokenizer), tokenizer.boundary
    if config.lexicon:
        trie = closed_trie(entries, n_tokens, boundary, optional=config.optional_boundary and boundary is not None)
    else:
        trie = open_trie(entries, n_tokens, boundary, starts=np.zeros(n_tokens, dtype=bool), value=float(values[0]))
    return SearchVocabulary(trie, extras.tolist(), **models), texts
