"""What every speech synthesiser does, which ones there are, and where each comes from."""

from __future__ import annotations

import importlib
import importlib.metadata
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from asr.errors import ConfigError
from asr.option import nearest

PACE_SPREAD = 0.06
"""Standard deviation of the logarithm of a speaker's pace, from one utterance to the next."""


@dataclass(frozen=True)
class Origin:
    """What made some speech.

    Attributes
    ----------
    engine
        Name of the synthesiser.
    version
        Of its software, and of its voices where they have versions of their own.
    licence
        What holds for the software and the voices.
    """

    engine: str
    version: str
    licence: str

    def __str__(self) -> str:
        return f"{self.engine} {self.version} ({self.licence})"


class Synthesiser(Protocol):
    """Text to speech in many voices.

    To make one is quick; models are loaded at the first :meth:`speak`.

    Attributes
    ----------
    origin
        What it is.
    carries_state
        Whether what it speaks depends on what the process spoke before, so that the same utterances have to be spoken by a
        fresh process, from the first one on, for the same samples.
    """

    @property
    def origin(self) -> Origin: ...

    @property
    def carries_state(self) -> bool: ...

    @property
    def sample_rate(self) -> int:
        """Rate of what it speaks (Hz)."""
        ...

    def draw_voice(self, rng: random.Random) -> str:
        """Return all that tells one speaker from another, as a name followed by settings ``key=number``, or by either alone."""
        ...

    def speak(self, text: str, voice: str, seed: int) -> np.ndarray:
        """Speak a text.

        Parameters
        ----------
        text
            What to say: words and punctuation.
        voice
            What :meth:`draw_voice` gives, or the like of it.
        seed
            Decides what differs from one utterance of a speaker to the next.

        Returns
        -------
        numpy.ndarray
            ``(sample,)`` float32 in [-1, 1] at :attr:`sample_rate`.

        Raises
        ------
        TextError
            It cannot say all of the text.
        ConfigError, Failure
            There is no such voice, or the synthesiser does not work.
        """
        ...


ENGINES = {
    "espeak": ("asr.speech.espeak", "EspeakVoices"),
    "hibari": ("asr.speech.hibari", "HibariVoices"),
    "kokoro": ("asr.speech.kokoro", "KokoroVoices"),
}
"""Names of synthesisers, with the module and the class of each."""


def make_synthesiser(name: str) -> Synthesiser:
    """Make a synthesiser.

    Parameters
    ----------
    name
        ``ENGINE`` or ``ENGINE:WHAT``, such as ``espeak:de`` or ``kokoro:PACKS``. An engine that is not among :data:`ENGINES`
        may be a class of one's own, ``MODULE.CLASS``, which is called with WHAT, or with an empty text.

    Raises
    ------
    ConfigError
        There is no such engine, it is not installed, or it has no such voices.
    """
    engine, _, what = name.partition(":")
    module, _, kind = engine.rpartition(".")
    if engine in ENGINES:
        module, kind = ENGINES[engine]
    elif not module:
        raise ConfigError(f"--voices {name}: no such synthesiser.{nearest(engine, ENGINES)} There are: {', '.join(ENGINES)}")
    try:
        made: Synthesiser = getattr(importlib.import_module(module), kind)(what)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"--voices {name}: cannot be imported: {error}") from None
    return made


def installed_version(distribution: str, extra: str) -> str:
    """Return the version of a package that the extra of asr for an engine brings.

    Raises
    ------
    ConfigError
        It is not installed.
    """
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        raise ConfigError(
            f"--voices {extra} needs the package {distribution}, which is not installed; install asr with its extra "
            f'"{extra}", as by `pip install ".[{extra}]"` in its folder'
        ) from None


def voice_text(name: str, settings: Mapping[str, float]) -> str:
    """Return a voice as one text, its name first; see :func:`read_voice`."""
    return " ".join([*([name] if name else []), *(f"{key}={value:g}" for key, value in settings.items())])


def read_voice(voice: str, defaults: Mapping[str, float]) -> tuple[str, dict[str, float]]:
    """Take apart what :func:`voice_text` made.

    Parameters
    ----------
    voice
        A name, settings, or both.
    defaults
        The settings that there are, with their values where the voice does not name them.

    Returns
    -------
    name : str
        Empty where there is none.
    settings : dict
        All of them.

    Raises
    ------
    ConfigError
        A setting is unknown or no number.
    """
    words = voice.split()
    name = words.pop(0) if words and "=" not in words[0] else ""
    settings = dict(defaults)
    for word in words:
        key, _, value = word.partition("=")
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if key not in defaults or not math.isfinite(number):
            raise ConfigError(f"voice {voice!r}: cannot use {word!r}; expected KEY=NUMBER with {', '.join(defaults)}")
        settings[key] = number
    return name, settings
