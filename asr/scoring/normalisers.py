"""Forms that references and hypotheses are brought into before they are compared, so that spelling alone is no error."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version

from asr.errors import ConfigError
from asr.option import nearest
from asr.text.normaliser import Normaliser

NORMALISERS = {
    "none": "as they are",
    "librispeech": "lower case, letters and apostrophes alone, as LibriSpeech's transcripts are",
    "basic": "Whisper's for any language: lower case, no punctuation, nothing in brackets",
    "english": "Whisper's for English: also numbers, contractions, titles and British spelling",
}
"""Names, with what they do. The last two are those of the paper by Radford and others (2022, appendix C), from the package
whisper-normalizer."""


@dataclass(frozen=True)
class ScoringNormaliser:
    """A form of texts.

    Attributes
    ----------
    name
        For a score's signature, with the version where another package does it.
    apply
        Brings a text into the form.
    """

    name: str
    apply: Callable[[str], str]


def build_normaliser(name: str) -> ScoringNormaliser:
    """Return the normaliser of a name.

    Raises
    ------
    ConfigError
        There is none of that name, or the package that has it is not installed.

    Examples
    --------
    >>> build_normaliser("librispeech").apply("Well-known, isn't it?")
    "well known isn't it"
    """
    if name == "none":
        return ScoringNormaliser(name, str)
    if name == "librispeech":
        return ScoringNormaliser(name, Normaliser(" 'abcdefghijklmnopqrstuvwxyz").normalise)
    if name not in NORMALISERS:
        raise ConfigError(f"{name!r} is no normaliser.{nearest(name, NORMALISERS)} There are: {', '.join(NORMALISERS)}")
    try:
        from whisper_normalizer.basic import BasicTextNormalizer
        from whisper_normalizer.english import EnglishTextNormalizer
    except ImportError:
        raise ConfigError(
            f"the normaliser {name} is that of the package whisper-normalizer, which is not installed: "
            "`pip install 'asr[normalisers]'`, or choose none or librispeech"
        ) from None
    made = BasicTextNormalizer() if name == "basic" else EnglishTextNormalizer()
    return ScoringNormaliser(f"whisper-{name}-{version('whisper-normalizer')}", lambda text: " ".join(made(text).split()))
