"""What the denominator of ``optim.loss: ctc_crf`` is estimated from: the training targets, and further texts."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from itertools import chain, islice

from asr.config import Config
from asr.crf import CtcCrf, perplexity
from asr.errors import DataError, TextError
from asr.language.texts import TextSource, find_sources, read_text
from asr.text import Tokenizer

logger = logging.getLogger(__name__)

_AT_ONCE = 1000  # sentences whose words are looked up together


def prepare_denominator(crf: CtcCrf, tokenizer: Tokenizer, transcripts: Iterable[str], config: Config) -> None:
    """Estimate the n-gram, and say how well it predicts the training targets.

    Parameters
    ----------
    crf
        The loss, whose n-gram is set.
    tokenizer
        Writes all texts as targets.
    transcripts
        Those of the training utterances.
    config
        Names the further texts.

    Raises
    ------
    DataError
        A further text cannot be read, or nothing of it can be written in the tokens.
    """
    targets = [tokenizer.encode(text) for text in transcripts]
    sources = find_sources(config.optim.crf_text, config.corpus.manifests)
    crf.fit(chain(targets, *(_encoded(source, tokenizer) for source in sources)))
    logger.info(
        f"denominator: {crf.ngram.dim()}-gram of {len(tokenizer)} tokens from {len(targets):,} transcripts"
        f"{' and further texts' if sources else ''}, perplexity {perplexity(targets, crf.ngram):.2f} on the transcripts"
    )


def _encoded(source: TextSource, tokenizer: Tokenizer) -> Iterator[list[int]]:
    """Yield the sentences of a text as targets; those that cannot be written are counted and passed over."""
    texts = map(tokenizer.normalise, read_text(source))
    n_written = n_left_out = 0
    while block := list(islice(texts, _AT_ONCE)):
        tokenizer.spell_many({word: None for text in block for word in text.split() if tokenizer.spellable(word)})
        for text in filter(None, block):
            try:
                labels = tokenizer.encode(text)
            except TextError:
                n_left_out += 1
                continue
            n_written += 1
            yield labels
    left_out = f"{n_left_out:,} of {n_written + n_left_out:,} sentences cannot be written in the model's tokens"
    if not n_written:
        raise DataError(f"optim.crf_text: {source.path}: {left_out}; expected text like the transcripts'")
    logger.info(f"{source.path}: {f'{left_out}, the others' if n_left_out else f'{n_written:,} sentences'} are counted")
