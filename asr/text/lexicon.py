"""Words with the token sequences that spell them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from asr.errors import DataError
from asr.files import replacing
from asr.text.normaliser import shortened
from asr.text.tokenizer import Tokenizer
from asr.untrusted import read_lines

Spelling = tuple[int, ...]


class Lexicon(Mapping[str, Sequence[Spelling]]):
    """A mapping from words to their spellings, best first, in the order in which the words were given.

    Parameters
    ----------
    entries
        Token sequences of each word, without the boundary.

    Raises
    ------
    ValueError
        For a word that is empty or holds white space, one without spellings, or an empty spelling.

    Examples
    --------
    >>> lexicon = Lexicon({"read": [(7, 3, 4), (7, 5, 4)]})
    >>> lexicon["read"][0]
    (7, 3, 4)
    """

    def __init__(self, entries: Mapping[str, Sequence[Spelling]]) -> None:
        self._entries = {word: tuple(spellings) for word, spellings in entries.items()}
        for word, spellings in self._entries.items():
            if word.split() != [word] or not spellings or not all(spellings):
                raise ValueError(f"{word!r} with {spellings}: expected a word and spellings of one token or more")

    @classmethod
    def spelled(cls, words: Iterable[str], tokenizer: Tokenizer) -> Lexicon:
        """Spell normalised words by a tokenizer; those that it cannot spell are left out."""
        return cls({word: found for word, found in tokenizer.spell_many(words).items() if found})

    def __getitem__(self, word: str) -> Sequence[Spelling]:
        return self._entries[word]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        """Return the number of words."""
        return len(self._entries)

    def save(self, path: Path, tokenizer: Tokenizer) -> Path:
        """Write a text file of lines ``word<TAB>name name ...``, whole or not at all, and return its path.

        Raises
        ------
        StorageError
            The file cannot be written.
        """
        names = tokenizer.token_names
        with replacing(path) as stream:
            for word, spellings in self._entries.items():
                for spelling in spellings:
                    stream.write(f"{word}\t{' '.join(names[index] for index in spelling)}\n".encode())
        return path

    @classmethod
    def load(cls, path: Path, tokenizer: Tokenizer) -> Lexicon:
        """Read a file that :meth:`save` or a person wrote; the first line of a word is its best spelling.

        Raises
        ------
        DataError
            The file is absent, not UTF-8 or empty, larger than :func:`asr.untrusted.read_lines` reads, or a line is no entry or
            holds a name that is no token, naming the line.
        """
        boundary = tokenizer.boundary
        indices = {name: index for index, name in enumerate(tokenizer.token_names) if index and index != boundary}
        entries: dict[str, dict[Spelling, None]] = {}
        try:
            lines = read_lines(path, DataError)
        except OSError as error:
            raise DataError(f"{path}: the lexicon cannot be read: {error.strerror or error}") from None
        for number, line in enumerate(lines, start=1):
            word, _, names = line.partition("\t")
            if not line.strip():
                continue
            if word.split() != [word] or not names.strip():
                raise DataError(
                    f"{path}, line {number}: expected a word, a tab and the names of its tokens between spaces, got "
                    f"{shortened(line)!r}"
                )
            unknown = [name for name in names.split() if name not in indices]
            if unknown:
                raise DataError(
                    f"{path}, line {number}: {unknown[0]!r} in the spelling of {word!r} is no token of this model; expected "
                    f"some of {shortened(' '.join(indices))}"
                )
            entries.setdefault(word, {})[tuple(indices[name] for name in names.split())] = None
        if not entries:
            raise DataError(f"{path}: the lexicon is empty; expected lines of a word, a tab and the names of its tokens")
        return cls({word: tuple(found) for word, found in entries.items()})
