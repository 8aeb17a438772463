"""Training text brought into one form: normalised sentences in a working file, and how often each word occurs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from asr.errors import ConfigError, DataError
from asr.language.texts import TextSource, find_sources, sentences
from asr.progress import Progress
from asr.text import Normaliser


@dataclass(frozen=True)
class Corpus:
    """Normalised sentences.

    Attributes
    ----------
    path
        UTF-8 file of a sentence a line, words separated by single spaces.
    counts
        How often each word occurs.
    n_sentences
        Number of lines.
    """

    path: Path
    counts: Counter[str]
    n_sentences: int

    @property
    def n_words(self) -> int:
        """Number of words."""
        return self.counts.total()

    def sentences(self) -> Iterator[list[str]]:
        """Yield the words of each sentence."""
        with open(self.path, encoding="utf-8", newline="\n") as lines:
            for line in lines:
                yield line.split()


def named_sources(names: Sequence[str], key: str, manifests: str, text_ids: bool) -> list[TextSource]:
    """Find the texts that a setting names.

    Raises
    ------
    ConfigError
        It names none.
    DataError
        One is not there.
    """
    if not names:
        raise ConfigError(f"{key} is empty: expected text files or manifests, such as {key}=[novels.txt.xz]")
    return find_sources(names, manifests, text_ids=text_ids)


def prepare_corpus(sources: Sequence[TextSource], form: Normaliser, path: Path, label: str = "reading") -> Corpus:
    """Normalise texts into one file, and count their words, with a display of progress on standard error.

    Raises
    ------
    DataError
        A file cannot be read, or there is no sentence in all of them.
    """
    counts: Counter[str] = Counter()
    n_sentences = 0
    total = sum(source.n_bytes for source in sources)
    with Progress(label, total, "bytes") as progress, open(path, "w", encoding="utf-8", newline="\n") as stream:
        for sentence in sentences(sources, form, progress.advance):
            stream.write(f"{sentence}\n")
            counts.update(sentence.split())
            n_sentences += 1
    if not n_sentences:
        raise DataError(f"no sentence is left of {', '.join(str(source.path) for source in sources)} after normalisation")
    return Corpus(path, counts, n_sentences)
