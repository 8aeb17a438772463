"""Beam searches: which one fits the language models, the tokens and the lexicon."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from asr.config import DecodingConfig
from asr.decoding.beam import BeamDecoder
from asr.decoding.hotwords import spell_hot_words
from asr.decoding.lexicon import LabelledLexicon, load_ngram, load_words, remembered, state_of, token_names
from asr.decoding.lexicon_search import LexiconSearch
from asr.decoding.lstm import load_lstm, lstm_path
from asr.decoding.rescoring import RescoringDecoder, SentenceScores
from asr.decoding.scorers import NgramTokens
from asr.decoding.search import PrefixSearch
from asr.decoding.wordlist import hot_word_vocabulary, lexicon_vocabulary
from asr.errors import ConfigError
from asr.language import LanguageModel, NgramModel
from asr.package.parts import find_part
from asr.text import Lexicon, Tokenizer


def build_beam(config: DecodingConfig, tokenizer: Tokenizer, folder: Path | None) -> BeamDecoder:
    """Build a beam search without language model; parameters and errors as for :func:`asr.decoding.build_decoder`."""
    return BeamDecoder(tokenizer, config, PrefixSearch(tokenizer.boundary, hot_word_vocabulary(config, tokenizer)))


def build_ngram(config: DecodingConfig, tokenizer: Tokenizer, folder: Path | None) -> BeamDecoder:
    """Build a beam search with an n-gram model; parameters and errors as for :func:`asr.decoding.build_decoder`."""
    return _with_ngram(config, tokenizer, folder, None)


def build_fusion(config: DecodingConfig, tokenizer: Tokenizer, folder: Path | None) -> BeamDecoder:
    """Build a beam search with an LSTM; parameters and errors as for :func:`asr.decoding.build_decoder`."""
    path = lstm_path(config, folder)
    model = load_lstm(path)
    if model.unit != "word":
        raise ConfigError(
            f"decoding.lstm={config.lstm}: {model.description}; decoding.kind=fusion needs one over words. Set "
            "decoding.kind=rescore, which can use any"
        )
    if config.lm is not None:
        return _with_ngram(config, tokenizer, folder, path)
    return _over_words(config, tokenizer, folder, lstm=path)


def build_rescoring(config: DecodingConfig, tokenizer: Tokenizer, folder: Path | None) -> RescoringDecoder:
    """Build a beam search whose lists an LSTM ranks; parameters and errors as for :func:`asr.decoding.build_decoder`."""
    path = lstm_path(config, folder)
    model = load_lstm(path)
    file = _lexicon_file(config, folder)
    if config.lm is not None:
        first = build_ngram(config, tokenizer, folder)
    elif config.lexicon and file is not None:
        first = _of_file(config, tokenizer, file)
    else:
        first = build_beam(config, tokenizer, folder)
    if not first.writes_words:
        raise ConfigError(
            f"decoding.kind=rescore: where the network writes {tokenizer.kind}, only a lexicon makes the words that the LSTM "
            "needs; set decoding.lexicon=true and name decoding.lm, an n-gram model over words, or decoding.lexicon_file"
        )
    scores = remembered("sentence scores", state_of(path), lambda: SentenceScores(model))
    return RescoringDecoder(first, config, scores)


def word_source(config: DecodingConfig, tokenizer: Tokenizer, folder: Path | None) -> LanguageModel | None:
    """Return the language model whose words are those of the lexicon, or None.

    Raises
    ------
    ConfigError, PackageError
        It cannot be used, or not be read.
    """
    if config.lm is not None:
        model = _read_ngram(config, folder)
        if token_names(model, tokenizer) is None:
            return model
    return load_lstm(lstm_path(config, folder)) if config.kind == "fusion" else None


def _read_ngram(config: DecodingConfig, folder: Path | None) -> NgramModel:
    path = find_part(config.lm, folder) if config.lm is not None else None
    return remembered("n-gram model", state_of(path), lambda: load_ngram(config, folder))


def _lexicon_file(config: DecodingConfig, folder: Path | None) -> Path | None:
    return find_part(config.lexicon_file, folder) if config.lexicon_file is not None else None


def _with_ngram(config: DecodingConfig, tokenizer: Tokenizer, folder: Path | None, lstm: Path | None) -> BeamDecoder:
    model = _read_ngram(config, folder)
    names = token_names(model, tokenizer)
    if names is None:
        return _over_words(config, tokenizer, folder, ngram=model, lstm=lstm)
    tokens, signature = NgramTokens(model.path, names, tokenizer.boundary), f"lm={model.signature}"
    if lstm is not None:
        return _over_words(config, tokenizer, folder, lstm=lstm, tokens=tokens, models=[signature])
    if not config.lexicon:
        search = PrefixSearch(tokenizer.boundary, hot_word_vocabulary(config, tokenizer), tokens)
        return BeamDecoder(tokenizer, config, search, models=[signature])
    file = _lexicon_file(config, folder)
    if file is None:
        raise ConfigError(
            f"decoding.lm={config.lm}: {model.description}, which knows no words to make a lexicon of; set "
            "decoding.lexicon=false, or name decoding.lexicon_file"
        )
    return _of_file(config, tokenizer, file, tokens, [signature])


def _over_words(
    config: DecodingConfig,
    tokenizer: Tokenizer,
    folder: Path | None,
    *,
    ngram: NgramModel | None = None,
    lstm: Path | None = None,
    tokens: NgramTokens | None = None,
    models: Sequence[str] = (),
) -> BeamDecoder:
    """Build a search with one or two models over words, of which the first gives the lexicon its words."""
    boundary, file = tokenizer.boundary, _lexicon_file(config, folder)
    if not config.lexicon and (boundary is None or not tokenizer.writes_words):
        raise ConfigError(
            f"decoding.lexicon=false: where the network writes {tokenizer.kind}, only a lexicon says where the words of "
            f"{config.lm or config.lstm} are; set decoding.lexicon=true, or name a language model over the network's own tokens"
        )
    source = word_source(config, tokenizer, folder)
    assert source is not None
    key = [state_of(ngram.path if ngram is not None else lstm), state_of(file), tokenizer.to_mapping()]
    words = remembered("words", key, lambda: load_words(source, tokenizer, file))
    hot = spell_hot_words(config.hot_words, tokenizer, words.lexicon)
    models = [*models, *_signatures(config, words, ngram, lstm)]
    is_plain = config.lexicon and not hot and not config.optional_boundary
    if is_plain and lstm is None and ngram is not None and boundary is not None:
        fast = remembered(
            "lexicon search",
            key,
            lambda: LexiconSearch(ngram.path, words.names, words.spellings(), len(tokenizer), boundary),
        )
        return BeamDecoder(tokenizer, config, fast, texts=words.texts, counts_words=True, models=models)
    kenlm = ngram.path if ngram is not None else None
    vocabulary, texts = lexicon_vocabulary(config, tokenizer, words, hot, ngram=kenlm, lstm=lstm)
    search = PrefixSearch(boundary, vocabulary, tokens)
    return BeamDecoder(tokenizer, config, search, texts=texts if config.lexicon else None, counts_words=True, models=models)


def _of_file(
    config: DecodingConfig, tokenizer: Tokenizer, file: Path, tokens: NgramTokens | None = None, models: Sequence[str] = ()
) -> BeamDecoder:
    """Build a search among the words of a file, without a language model over words."""
    lexicon = Lexicon.load(file, tokenizer)
    words = LabelledLexicon(tuple(lexicon), tuple(lexicon), lexicon)
    vocabulary, texts = lexicon_vocabulary(config, tokenizer, words, spell_hot_words(config.hot_words, tokenizer, lexicon))
    search = PrefixSearch(tokenizer.boundary, vocabulary, tokens)
    models = [*models, *_signatures(config, words)]
    return BeamDecoder(tokenizer, config, search, texts=texts, counts_words=True, models=models)


def _signatures(
    config: DecodingConfig, words: LabelledLexicon, ngram: NgramModel | None = None, lstm: Path | None = None
) -> list[str]:
    parts = [f"lm={ngram.signature}"] if ngram is not None else []
    parts += [f"lexicon={len(words.texts)}-{words.digest}" if config.lexicon else "lexicon=none"]
    parts += ["optional-boundary"] if config.optional_boundary else []
    return parts + ([f"lstm={load_lstm(lstm).signature}", f"lstm_weight={config.lstm_weight:g}"] if lstm is not None else [])
