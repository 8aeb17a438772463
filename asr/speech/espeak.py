"""Speech and pronunciations from eSpeak NG, which comes as a wheel with its library and voices (``espeakng-loader``).

The library keeps its state in globals: it is loaded once in a process, and one thread at a time uses it. What it speaks depends
on what it spoke before, whether or not it is started anew, so a corpus is spoken in processes of its own.
"""

from __future__ import annotations

import ctypes
import random
import re
import threading
from collections.abc import Iterable
from functools import cache
from typing import Any, ClassVar

import numpy as np

from asr.errors import ConfigError, Failure, TextError
from asr.speech.synthesiser import Origin, installed_version, read_voice, voice_text

ENGLISH = (*("en-us", "en-us-nyc", "en", "en-gb-x-rp", "en-gb-scotland", "en-gb-x-gbclan", "en-gb-x-gbcwmd", "en-029"),)
"""Its English accents."""
# Variants with breath noise (f2, f3, f5, ...) are left out: the synthesiser seeds it by the clock.
VARIANTS = (
    *("f1", "m1", "m2", "m3", "m4", "m5", "m6", "Andy", "Annie", "Gene", "Lee", "Michael", "Mike", "Alex"),
    *("adam", "anika", "antonio", "aunty", "belinda", "benjamin", "caleb", "david", "edward", "grandma", "grandpa", "ian"),
    *("iven", "john", "linda", "marcelo", "max", "michel", "miguel", "pablo", "paul", "quincy", "rob", "robert", "steph"),
    *("travis", "zac"),
    *("m7", "steph3", "Denis", "shelby", "pedro"),
    *("f4", "m8", "Andrea", "Mario", "Jacky", "Marco", "Hugo", "ed", "boris", "norbert"),
)
"""Its variants of a voice, each another speaker of the same accent."""

_SYNCHRONOUS = 2  # espeak_AUDIO_OUTPUT: samples go to the callback while espeak_Synth runs
_DONT_EXIT = 0x8000  # espeak_Initialize: report an error rather than end the process
_UTF8 = 1
_RATE, _PITCH, _RANGE = 1, 3, 4  # espeak_PARAMETER
_SEPARATOR = "|"
_IPA = 0x02 | ord(_SEPARATOR) << 8  # phonememode of espeak_TextToPhonemes: bit 1 is IPA, bits 8 to 23 the separator
_LONGEST_WORD = 100  # characters; beyond some 150 espeak cuts a word without notice

# A language and a variant, never a path, whoever wrote it.
_VOICE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]+)*(\+[A-Za-z0-9]+)?")
# Marks where a word is taken from another language, "(en)...(de)".
_SWITCH = re.compile(r"\([a-z-]+\)")
_LOCK = threading.RLock()

_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


@cache
def _load() -> tuple[Any, int]:
    """Return the library, started, and its sample rate (Hz)."""
    import espeakng_loader

    library: Any = espeakng_loader.load_library()
    if library is None:
        raise Failure(f"{espeakng_loader.get_library_path()}: eSpeak NG cannot be loaded; install espeakng-loader again")
    sample_rate = int(library.espeak_Initialize(_SYNCHRONOUS, 0, espeakng_loader.get_data_path().encode(), _DONT_EXIT))
    if sample_rate <= 0:
        raise Failure(f"{espeakng_loader.get_data_path()}: eSpeak NG does not start; install espeakng-loader again")
    library.espeak_TextToPhonemes.restype = ctypes.c_char_p
    library.espeak_TextToPhonemes.argtypes = [ctypes.POINTER(ctypes.c_char_p), ctypes.c_int, ctypes.c_int]
    return library, sample_rate


def check_voice(voice: str) -> None:
    """Refuse what can be no voice's name, such as a path, with a ConfigError; whether there is one is seen when it speaks."""
    if not _VOICE.fullmatch(voice):
        raise ConfigError(f"{voice!r} is no name of a voice of eSpeak NG; expected a language such as en-us or de")


def pronounce(words: Iterable[str], voice: str) -> dict[str, tuple[tuple[str, ...], ...]]:
    """Look up how words are pronounced, each by itself.

    Parameters
    ----------
    words
        Words without white space.
    voice
        Language and variant, such as ``en-us``.

    Returns
    -------
    dict
        For each word the phones (IPA, with stress marks; diphthongs and affricates are one phone) of each part that espeak
        reads it as: one part for most words, several for numerals (``xiv`` is "roman fourteen"). No part where there is nothing
        to pronounce, or for a word of more than 100 characters.

    Raises
    ------
    ConfigError
        There is no such voice.
    Failure
        The library does not work on this machine.
    """
    check_voice(voice)
    with _LOCK:
        library, _ = _load()
        if library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise ConfigError(f"eSpeak NG has no voice {voice!r}; expected a language it knows, such as en-us or de")
        return {word: _parts(library, word) for word in words}


def _parts(library: Any, word: str) -> tuple[tuple[str, ...], ...]:
    if len(word) > _LONGEST_WORD or "\0" in word:
        return ()
    rest = ctypes.c_char_p(word.encode("utf-8", "replace"))
    clauses = []
    while rest.value:
        clauses.append((library.espeak_TextToPhonemes(ctypes.byref(rest), _UTF8, _IPA) or b"").decode("utf-8", "replace"))
    text = _SWITCH.sub(_SEPARATOR, " ".join(clauses))
    parts = (tuple(filter(None, part.split(_SEPARATOR))) for part in text.split())
    return tuple(part for part in parts if part)


class EspeakVoices:
    """eSpeak NG as a :class:`asr.speech.Synthesiser`: its accents and variants at many rates and pitches.

    A voice is a language and a variant, ``rate`` in words a minute (80 to 450), ``pitch`` and its ``range`` (0 to 100), as in
    ``en-us+f3 rate=175 pitch=50 range=50``.

    Parameters
    ----------
    language
        Such as ``de`` or ``en-us``; empty for all of :data:`ENGLISH`.

    Raises
    ------
    ConfigError
        The name can be no language's.
    """

    carries_state = True
    _DEFAULTS: ClassVar = {"rate": 175, "pitch": 50, "range": 50}

    def __init__(self, language: str = "") -> None:
        if language:
            check_voice(language)
        self._languages = (language,) if language else ENGLISH
        self._samples = bytearray()
        self._callback = _Callback(self._receive)  # kept here, or it would be collected while the library calls it

    @property
    def origin(self) -> Origin:
        """What it is."""
        return Origin(
            "eSpeak NG",
            f"of espeakng-loader {installed_version('espeakng-loader', 'espeak')}",
            "the program GPL-3.0-or-later, which does not cover what it speaks",
        )

    @property
    def sample_rate(self) -> int:
        """Rate of what it speaks (Hz)."""
        with _LOCK:
            return _load()[1]

    def draw_voice(self, rng: random.Random) -> str:
        """Return a variant of an accent with a rate, a pitch and a liveliness."""
        name = f"{rng.choice(self._languages)}+{rng.choice(VARIANTS)}"
        return voice_text(name, {"rate": rng.randint(130, 220), "pitch": rng.randint(25, 75), "range": rng.randint(20, 80)})

    def speak(self, text: str, voice: str, seed: int = 0) -> np.ndarray:
        """Speak a text; the seed changes nothing.

        Raises
        ------
        TextError
            There is nothing to say.
        ConfigError
            There is no such voice.
        Failure
            The library does not work on this machine.
        """
        name, settings = read_voice(voice, self._DEFAULTS)
        check_voice(name)
        with _LOCK:
            library, _ = _load()
            library.espeak_SetSynthCallback(self._callback)
            if library.espeak_SetVoiceByName(name.encode()) != 0:
                raise ConfigError(f"eSpeak NG has no voice {name!r}; expected a language it knows, such as en-us or de")
            for parameter, key in ((_RATE, "rate"), (_PITCH, "pitch"), (_RANGE, "range")):
                library.espeak_SetParameter(parameter, round(settings[key]), 0)
            self._samples.clear()
            encoded = text.encode()
            status = library.espeak_Synth(encoded, ctypes.c_size_t(len(encoded) + 1), 0, 0, 0, _UTF8, None, None)
            if status != 0:
                raise Failure(f"eSpeak NG could not speak {text!r} as {voice} (status {status})")
            if not self._samples:
                raise TextError(f"eSpeak NG found nothing to say in {text!r}")
            return np.frombuffer(bytes(self._samples), dtype=np.int16).astype(np.float32) / 32768

    def _receive(self, samples: Any, n_samples: int, _events: int | None) -> int:
        if samples and n_samples > 0:
            self._samples += ctypes.string_at(samples, 2 * n_samples)
        return 0
