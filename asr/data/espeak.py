"""Speech from eSpeak NG, which comes as a wheel with its library and voices (``espeakng-loader``).

The library keeps its state in globals, so callers run it in a process of its own.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from asr.errors import Failure

_SYNCHRONOUS = 2  # espeak_AUDIO_OUTPUT: samples go to the callback while espeak_Synth runs
_DONT_EXIT = 0x8000  # espeak_Initialize: report an error rather than end the process
_UTF8 = 1
_RATE, _PITCH, _RANGE = 1, 3, 4  # espeak_PARAMETER

_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


class Espeak:
    """The synthesiser; one in a process.

    Attributes
    ----------
    sample_rate
        Rate of what :meth:`speak` returns (Hz).
    """

    def __init__(self) -> None:
        import espeakng_loader

        library: Any = espeakng_loader.load_library()
        if library is None:
            raise Failure(f"{espeakng_loader.get_library_path()}: eSpeak NG cannot be loaded; install espeakng-loader again")
        self._library = library
        self.sample_rate = int(library.espeak_Initialize(_SYNCHRONOUS, 0, espeakng_loader.get_data_path().encode(), _DONT_EXIT))
        if self.sample_rate <= 0:
            raise Failure(f"{espeakng_loader.get_data_path()}: eSpeak NG does not start; install espeakng-loader again")
        self._samples = bytearray()
        self._callback = _Callback(self._receive)  # kept here, or it would be collected while the library calls it
        library.espeak_SetSynthCallback(self._callback)

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
