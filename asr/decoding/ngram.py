"""Beam search with an n-gram language model: which search fits the model, the tokens and the lexicon."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from asr.config import DecodingConfig
from asr.decoding.beam import BeamDecoder
from asr.decoding.hotwords import spell_hot_words
from asr.decoding.lexicon import Words, find, load_ngram, load_words, remembered, state_of, token_names
from asr.decoding.lexicon_search import LexiconSearch
from asr.decoding.scorers import NgramTokens
from asr.decoding.search import PrefixSearch
from asr.decoding.wordlist import free_vocabulary, word_vocabulary
from asr.errors import ConfigError
from asr.language import NgramModel
from asr.text import Lexicon, Tokenizer


def build_ngram(config: DecodingConfig, tokenizer: Tokenizer, folder: Path | None) -> BeamDecoder:
    """Build the decoder for an n-gram model; parameters and errors as for :func:`asr.decoding.build_decoder`."""
    path = find(config.lm, folder) if config.lm is not None else None
    file = find(config.lexicon_file, folder) if config.lexicon_file is not None else None
    model = remembered("n-gram model", state_of(path), lambda: load_ngram(config, folder))
    names = token_names(model, tokenizer)
    if names is None:
        return _over_words(config, tokenizer, model, file)
    return _over_tokens(config, tokenizer, model, names, file)


def _over_words(config: DecodingConfig, tokenizer: Tokenizer, model: NgramModel, file: Path | None) -> BeamDecoder:
    boundary = tokenizer.boundary
    if not config.lexicon and (boundary is None or not tokenizer.writes_words):
        raise ConfigError(
            f"decoding.lexicon=false: where the network writes {tokenizer.kind}, only a lexicon says where the words of "
            f"{config.lm} are; set decoding.lexicon=true, or name a language model over the network's own tokens"
        )
    key = [state_of(model.path), state_of(file), tokenizer.to_mapping()]
    words = remembered("words", key, lambda: load_words(model, tokenizer, file))
    hot = spell_hot_words(config.hot_words, tokenizer, words.lexicon)
    if config.lexicon and not hot and not config.optional_boundary and boundary is not None:
        fast = remembered(
            "lexicon search",
            key,
            lambda: LexiconSearch(model.path, words.names, words.spellings(), len(tokenizer), boundary),
        )
        return BeamDecoder(tokenizer, config, fast, texts=words.texts, models=_signatures(config, model, words))
    vocabulary, texts = word_vocabulary(config, tokenizer, words, hot, model.path)
    search = PrefixSearch(boundary, vocabulary)
    models = _signatures(config, model, words)
    return BeamDecoder(tokenizer, config, search, texts=texts if config.lexicon else None, models=models)


def _over_tokens(
    config: DecodingConfig, tokenizer: Tokenizer, model: NgramModel, names: Sequence[str], file: Path | None
) -> BeamDecoder:
    tokens = NgramTokens(model.path, names, tokenizer.boundary)
    if not config.lexicon:
        vocabulary = free_vocabulary(config, tokenizer)
        search = PrefixSearch(tokenizer.boundary, vocabulary, tokens)
        return BeamDecoder(tokenizer, config, search, models=[f"lm={model.signature}"])
    if file is None:
        raise ConfigError(
            f"decoding.lm={config.lm}: {model.description}, which knows no words to make a lexicon of; set "
            "decoding.lexicon=false, or name decoding.lexicon_file"
        )
    lexicon = Lexicon.load(file, tokenizer)
    words = Words(tuple(lexicon), tuple(lexicon), lexicon)
    hot = spell_hot_words(config.hot_words, tokenizer, lexicon)
    vocabulary, texts = word_vocabulary(config, tokenizer, words, hot, None)
    search = PrefixSearch(tokenizer.boundary, vocabulary, tokens)
    return BeamDecoder(tokenizer, config, search, texts=texts, models=_signatures(config, model, words))


def _signatures(config: DecodingConfig, model: NgramModel, words: Words) -> list[str]:
    lexicon = f"lexicon={len(words.texts)}-{words.digest}" if config.lexicon else "lexicon=none"
    return [f"lm={model.signature}", lexicon, *(["optional-boundary"] if config.optional_boundary else [])]
