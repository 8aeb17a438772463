"""Speech and pronunciations from eSpeak NG, which comes as a wheel with its library and voices (``espeakng-loader``).

The library keeps its state in globals: it is loaded once in a process, and one thread at a time uses it. What it speaks depends
on what it spoke before, so a corpus is spoken in processes of its own.
"""

from __future__ import annotations

import ctypes
import re
import threading
from collections.abc import Iterable
from functools import cache
from typing import Any

import numpy as np

from asr.errors import ConfigError, Failure

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


class Espeak:
    """The synthesiser.

    Attributes
    ----------
    sample_rate
        Rate of what :meth:`speak` returns (Hz).
    """

    def __init__(self) -> None:
        with _LOCK:
            self._library, self.sample_rate = _load()
        self._samples = bytearray()
        self._callback = _Callback(self._receive)  # kept here, or it would be collected while the library calls it

    def _receive(self, samples: Any, n_samples: int, _events: int | None) -> int:
        if samples and n_samples > 0:
            self._samples += ctypes.string_at(samples, 2 * n_samples)
        return 0

    def speak(self, text: str, voice: str, *, rate_wpm: int = 175, pitch: int = 50, pitch_range: int = 50) -> np.ndarray:
        """Speak a text.

        Parameters
        ----------
        text
            What to say.
        voice
            Language and variant, such as ``en-us+f3``.
        rate_wpm
            Words a minute, 80 to 450.
        pitch, pitch_range
            Base pitch and liveliness, 0 to 100.

        Returns
        -------
        numpy.ndarray
            ``(sample,)`` float32 in [-1, 1] at :attr:`sample_rate`.

        Raises
        ------
        Failure
            There is no such voice, or the synthesiser failed.
        """
        with _LOCK:
            self._library.espeak_SetSynthCallback(self._callback)
            if self._library.espeak_SetVoiceByName(voice.encode()) != 0:
                raise Failure(f"eSpeak NG has no voice {voice!r}")
            for parameter, value in ((_RATE, rate_wpm), (_PITCH, pitch), (_RANGE, pitch_range)):
                self._library.espeak_SetParameter(parameter, value, 0)
            self._samples.clear()
            encoded = text.encode()
            status = self._library.espeak_Synth(encoded, ctypes.c_size_t(len(encoded) + 1), 0, 0, 0, _UTF8, None, None)
            if status != 0 or not self._samples:
                raise Failure(f"eSpeak NG could not speak {text!r} as {voice} (status {status})")
            return np.frombuffer(bytes(self._samples), dtype=np.int16).astype(np.float32) / 32768
