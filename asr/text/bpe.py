"""Pieces of words by byte-pair encoding (Sennrich et al. 2016), found by sentencepiece (Kudo and Richardson 2018).

Only training needs sentencepiece: a tokenizer keeps the pieces as plain text, in the order in which they were found, which is
all that encoding needs.
"""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Self

from asr.errors import ConfigError, DataError, TextError
from asr.text.normaliser import Normaliser, quoted
from asr.text.tokenizer import Tokenizer

WORD_START = "▁"  # U+2581
_MAX_PIECES = 1 << 16
_MAX_PIECE = 64  # characters
_LONGEST_TEXT = 1 << 24  # bytes; sentencepiece leaves out longer ones
_TOO_MANY = re.compile(r"Please set it to a value <= (\d+)")


class BpeTokenizer(Tokenizer):
    """One token a piece of a word; the piece that starts a word begins with "▁".

    Parameters
    ----------
    form
        Brings texts into the form that is encoded.
    pieces
        The pieces in the order of their indices from 1. Of all neighbours those are joined first whose union comes first.

    Raises
    ------
    ValueError
        For pieces that cannot be: none, one twice, or a character of the alphabet missing.

    Examples
    --------
    >>> tokenizer = BpeTokenizer(Normaliser(" abc"), ["ab", "▁ab", "▁", "a", "b", "c"])
    >>> [tokenizer.token_names[index] for index in tokenizer.encode("abc ba")]
    ['▁ab', 'c', '▁', 'b', 'a']
    """

    kind = "bpe"

    def __init__(self, form: Normaliser, pieces: Sequence[str]) -> None:
        super().__init__(form, pieces)
        self._indices = {piece: index for index, piece in enumerate(pieces, start=1)}
        self._spellings: dict[str, tuple[int, ...]] = {}
        missing = sorted({WORD_START, *form.alphabet} - {" "} - self._indices.keys())
        if missing:
            raise ValueError(f"the pieces lack {quoted(missing)}; each character of the alphabet is a piece")
        if len(self._indices) < len(pieces):
            raise ValueError("the pieces hold one twice")

    def encode(self, text: str) -> list[int]:
        normalised = self.normalise(text)
        if self.form.unknown(normalised):
            raise TextError(self.form.unknown_message(normalised))
        return [token for word in normalised.split() for token in self._spelling(word)]

    def decode(self, tokens: Sequence[int]) -> str:
        self.check_tokens(tokens)
        words = "".join(self.token_names[index] for index in tokens).replace(WORD_START, " ").split()
        return (" " if " " in self.form.alphabet else "").join(words)

    def spell_many(self, words: Iterable[str]) -> dict[str, list[tuple[int, ...]]]:
        return {word: [self._spelling(word)] if self.spellable(word) else [] for word in words}

    def _spelling(self, word: str) -> tuple[int, ...]:
        if word not in self._spellings:
            self._spellings[word] = tuple(self._indices[piece] for piece in self._pieces(word))
        return self._spellings[word]

    def _pieces(self, word: str) -> list[str]:
        """Join neighbours, those first whose union was found first, until no union is a piece."""
        pieces = [WORD_START, *word]
        while True:
            unions = [self._indices.get(a + b, len(self)) for a, b in pairwise(pieces)]
            first = min(unions, default=len(self))
            if first == len(self):
                return pieces
            at = unions.index(first)
            pieces[at : at + 2] = [self.token_names[first]]

    def fields(self) -> dict[str, Any]:
        return {"pieces": list(self.token_names[1:])}

    @classmethod
    def from_fields(cls, form: Normaliser, fields: Mapping[str, Any]) -> Self:
        pieces = fields.get("pieces")
        if fields.keys() != {"pieces"} or not isinstance(pieces, list) or len(pieces) > _MAX_PIECES:
            raise ValueError(f"expected 'pieces', a list of {_MAX_PIECES} texts at most, got {sorted(fields)}")
        if not all(isinstance(piece, str) and piece.split() == [piece] and len(piece) <= _MAX_PIECE for piece in pieces):
            raise ValueError(f"'pieces' holds other than texts of 1 to {_MAX_PIECE} characters without spaces")
        return cls(form, pieces)


def train_bpe(form: Normaliser, size: int, texts: Iterable[str]) -> BpeTokenizer:
    """Find the pieces of the training transcripts; the same transcripts in any order give the same pieces.

    Parameters
    ----------
    form
        Brings texts into the form that is encoded. Every character of its alphabet becomes a piece.
    size
        Number of tokens, blank included.
    texts
        Training transcripts.

    Raises
    ------
    ConfigError
        For a size that is too small for the alphabet or too large for the texts, naming the limit.
    DataError
        There is nothing to find pieces in.
    """
    words = Counter(word for text in texts for word in form.normalise(text).split())
    return find_pieces(form, size, words, key="tokens.size", source="corpus.train")


def find_pieces(form: Normaliser, size: int, words: Mapping[str, int], *, key: str, source: str) -> BpeTokenizer:
    """Find the pieces of normalised words from their counts; otherwise as :func:`train_bpe`.

    Parameters
    ----------
    form, size
        As for :func:`train_bpe`.
    words
        How often each word occurs.
    key, source
        The settings that gave the size and the texts, for messages.
    """
    import sentencepiece

    if WORD_START in form.alphabet:
        raise ConfigError(f"tokens.alphabet holds {quoted([WORD_START])}, with which tokens.kind=bpe marks where a word starts")
    characters = form.alphabet.replace(" ", "")
    if size < len(characters) + 2:
        raise ConfigError(
            f"{key}={size}: too small; the blank, the start of a word and the alphabet's {len(characters)} characters "
            f"take {len(characters) + 2}"
        )
    rows = [f"{word}\t{n}" for word, n in sorted(words.items()) if not form.unknown(word)]  # reported with its utterance
    if not rows:
        raise DataError(f"{source}: the texts hold no words, so there are no pieces to find")
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(rows),
            input_format="tsv",
            model_writer=model,
            model_type="bpe",
            vocab_size=size,
            required_chars=characters,
            character_coverage=1.0,
            normalization_rule_name="identity",
            max_sentence_length=_LONGEST_TEXT,
            unk_id=0,  # where the blank will be
            bos_id=-1,
            eos_id=-1,
            pad_id=-1,
            num_threads=1,
            minloglevel=3,
        )
    except RuntimeError as error:
        limit = _TOO_MANY.search(str(error))
        if limit is None:
            raise
        raise ConfigError(
            f"{key}={size}: too large; the {len(rows)} different words of the training texts give at most {limit[1]} tokens. "
            f"Choose {key}={limit[1]} or less."
        ) from None
    trained = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    return BpeTokenizer(form, [trained.id_to_piece(index) for index in range(1, size)])
