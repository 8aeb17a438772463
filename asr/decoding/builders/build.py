"""From a decoder's settings to the decoder: which search fits the language models, the tokens and the lexicon."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from asr.config import DecodingConfig
from asr.decoding.builders.hot_words import spell_hot_words
from asr.decoding.builders.lexicon import LabelledLexicon, load_lexicon
from asr.decoding.builders.vocabulary import hot_word_vocabulary, lexicon_vocabulary
from asr.decoding.cache import remembered, state_of
from asr.decoding.decoders.beam import BeamDecoder
from asr.decoding.decoders.decoder import Decoder
from asr.decoding.decoders.greedy import GreedyDecoder
from asr.decoding.decoders.rescoring import RescoringDecoder, SentenceScores
from asr.decoding.scorers.loading import load_lstm, load_ngram, lstm_path, token_names, word_source
from asr.decoding.scorers.ngram import NgramTokens
from asr.decoding.search.lexicon_search import LexiconSearch
from asr.decoding.search.prefix_search import PrefixSearch
from asr.errors import ConfigError
from asr.language import NgramModel
from asr.package.parts import find_part
from asr.text import Lexicon, Tokenizer


def build_decoder(config: DecodingConfig, tokenizer: Tokenizer, folder: Path | None = None) -> Decoder:
    """Build the decoder that the configuration describes.

    Parameters
    ----------
    config
        The decoder's settings.
    tokenizer
        The model's.
    folder
        The model package's, in which relative paths are looked up before the working folder.

    Raises
    ------
    ConfigError
        For a kind that does not exist, or settings that do not fit each other, the tokenizer or the models.
    PackageError, DataError
        Where a language model or lexicon cannot be read.
    """
    if config.kind not in _KINDS:
        raise ConfigError(f"decoding.kind={config.kind!r}: there are {', '.join(_KINDS)}")
    return _KINDS[config.kind](config, tokenizer, folder)


def _build_greedy(config: DecodingConfig, tokenizer: Tokenizer, folder: Path | None) -> GreedyDecoder:
    if config.hot_words:
        raise ConfigError(
            "hot words need a decoder that keeps several hypotheses: decoding.kind=beam, or beam_ngram with a language model"
        )
    return GreedyDecoder(tokenizer, config)


def _build_beam(config: DecodingConfig, tokenizer: Tokenizer, folder: Path | None) -> BeamDecoder:
    return BeamDecoder(tokenizer, config, PrefixSearch(tokenizer.boundary, hot_word_vocabulary(config, tokenizer)))


def _build_ngram(config: DecodingConfig, tokenizer: Tokenizer, folder: Path | None, lstm: Path | None = None) -> BeamDecoder:
    """Build a search with an n-gram model, and perhaps an LSTM, whose folder is given."""
    model = load_ngram(config, folder)
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


def _build_fusion(config: DecodingConfig, tokenizer: Tokenizer, folder: Path | None) -> BeamDecoder:
    path = lstm_path(config, folder)
    model = load_lstm(path)
    if model.unit != "word":
        raise ConfigError(
            f"decoding.lstm={config.lstm}: {model.description}; decoding.kind=fusion needs one over words. Set "
            "decoding.kind=rescore, which can use any"
        )
    if config.lm is not None:
        return _build_ngram(config, tokenizer, folder, path)
    return _over_words(config, tokenizer, folder, lstm=path)


def _build_rescoring(config: DecodingConfig, tokenizer: Tokenizer, folder: Path | None) -> RescoringDecoder:
    path = lstm_path(config, folder)
    model = load_lstm(path)
    file = _lexicon_file(config, folder)
    if config.lm is not None:
        first = _build_ngram(config, tokenizer, folder)
    elif config.lexicon and file is not None:
        first = _of_file(config, tokenizer, file)
    else:
        first = _build_beam(config, tokenizer, folder)
    if not first.writes_words:
        raise ConfigError(
            f"decoding.kind=rescore: where the network writes {tokenizer.kind}, only a lexicon makes the words that the LSTM "
            "needs; set decoding.lexicon=true and name decoding.lm, an n-gram model over words, or decoding.lexicon_file"
        )
    scores = remembered("sentence scores", state_of(path), lambda: SentenceScores(model))
    return RescoringDecoder(first, config, scores)


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
    words = remembered("words", key, lambda: load_lexicon(source, tokenizer, file))
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


def _lexicon_file(config: DecodingConfig, folder: Path | None) -> Path | None:
    return find_part(config.lexicon_file, folder) if config.lexicon_file is not None else None


_KINDS: Mapping[str, Callable[[DecodingConfig, Tokenizer, Path | None], Decoder]] = {
    "greedy": _build_greedy,
    "beam": _build_beam,
    "beam_ngram": _build_ngram,
    "rescore": _build_rescoring,
    "fusion": _build_fusion,
}
