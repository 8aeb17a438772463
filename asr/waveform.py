"""Arrays of samples, as files and programs hand them over, to the mono waveforms that the model takes."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from numbers import Real
from typing import Any

import numpy as np

from asr.errors import AudioError
from asr.mixing import Tell, to_mono

_LOWEST_RATE_HZ, _HIGHEST_RATE_HZ = 1000, 768_000
_LARGEST_INT24 = 2**23
_INT16_STEP = 2**16  # between 16-bit samples that were scaled to 32
_RATE_KEYS = ("sampling_rate", "sample_rate")
_ARRAY_KEYS = ("array", "raw")


def unpack_recording(source: Any, sample_rate: int | None, name: str) -> tuple[Any, int | None]:
    """Take a recording apart that holds samples and rate together.

    Parameters
    ----------
    source
        ``(rate, array)``, as scipy and Gradio have it; ``(array, rate)``, as soundfile, librosa and torchaudio have it; a
        mapping with ``array`` (or ``raw``) and ``sampling_rate`` (or ``sample_rate``), or with ``bytes`` or ``path`` where
        nothing is decoded yet, as Hugging Face has it; a decoder or samples of torchcodec. Anything else is left as it is.
    sample_rate
        What the caller gives (Hz); None where nothing.
    name
        What to call the recording in an error.

    Returns
    -------
    source : Any
        The array, bytes or path.
    sample_rate : int or None
        The rate that goes with it, unchecked.

    Raises
    ------
    AudioError
        The mapping lacks what it needs, or the rate is not the one that the caller gives.
    """
    if hasattr(source, "get_all_samples"):
        source = source.get_all_samples()
    if isinstance(source, Mapping):
        source, own_rate = _unpack_mapping(source, name)
    elif hasattr(source, "sample_rate") and hasattr(source, "data"):
        source, own_rate = source.data, source.sample_rate
    elif isinstance(source, (tuple, list)) and len(source) == 2 and _is_number(source[0]) != _is_number(source[1]):
        own_rate, source = source if _is_number(source[0]) else source[::-1]
    else:
        return source, sample_rate
    if own_rate is not None and sample_rate is not None and own_rate != sample_rate:
        raise AudioError(f"{name}: comes with a sample rate of {own_rate} Hz, but sample_rate={sample_rate}; leave one out")
    return source, sample_rate if own_rate is None else own_rate


def check_waveform(waveform: Any, name: str = "waveform", channel: int | None = None, tell: Tell | None = None) -> np.ndarray:
    """Bring an array from Python into the form the model takes.

    Parameters
    ----------
    waveform
        ``(sample,)``, ``(sample, channel)`` or ``(channel, sample)``, where the shorter side counts as the channels: floats in
        [-1, 1], or integers of 8, 16 or 32 bits, which are scaled by their type's range; 32 bits that may be 16 or 24 are
        refused. Tensors may be on any device, and may
        have gradients.
    name
        What to call it in an error.
    channel, tell
        As for :func:`asr.mixing.mix_blocks`.

    Returns
    -------
    numpy.ndarray
        ``(sample,)`` float32.

    Raises
    ------
    AudioError
        The array has no samples, no such channel, the wrong number of dimensions, a type that is not numeric or whose scale is
        not known, or values that are no numbers.
    """
    array = _as_array(waveform, name)
    if array.ndim not in (1, 2):
        got = f"shape {array.shape}" if array.ndim else type(waveform).__name__
        raise AudioError(f"{name}: expected an array (sample,), (sample, channel) or (channel, sample), got {got}")
    if array.size == 0:
        raise AudioError(f"{name}: holds no audio samples")
    if array.ndim == 2 and array.shape[0] == array.shape[1] > 1:
        raise AudioError(f"{name}: has shape {array.shape}, which does not tell samples from channels; mix it to (sample,)")
    if array.ndim == 2 and array.shape[1] > array.shape[0]:
        array = array.T
    return to_mono(_scaled(array.reshape(len(array), -1), name), name, channel, tell)


def check_rate(sample_rate: Any, name: str, advice: str = "is it corrupt?") -> int:
    """Return the sample rate (Hz) that a file or a caller gives.

    Parameters
    ----------
    sample_rate
        What should be a whole number from 1000 to 768000.
    name
        What to call the recording in an error.
    advice
        What the error says last.

    Raises
    ------
    AudioError
        It is none.
    """
    is_whole = isinstance(sample_rate, Real) and float(sample_rate).is_integer()
    if is_whole and _LOWEST_RATE_HZ <= sample_rate <= _HIGHEST_RATE_HZ:
        return int(sample_rate)
    shown = repr(sample_rate)
    raise AudioError(
        f"{name}: has a sample rate of {shown if len(shown) < 40 else type(sample_rate).__name__} Hz, expected a whole number "
        f"from {_LOWEST_RATE_HZ} to {_HIGHEST_RATE_HZ}; {advice}"
    )


def _unpack_mapping(source: Mapping[str, Any], name: str) -> tuple[Any, Any]:
    rate = next((source[key] for key in _RATE_KEYS if key in source), None)
    for key in (*_ARRAY_KEYS, "bytes", "path"):
        if source.get(key) is not None:
            return source[key], rate if key in _ARRAY_KEYS else None
    keys = ", ".join(map(str, source)) or "none"
    raise AudioError(f"{name}: a mapping with the keys {keys}; expected array and sampling_rate, or bytes, or path")


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) or getattr(value, "ndim", None) == 0


def _as_array(waveform: Any, name: str) -> np.ndarray:
    """Return any array, tensor or sequence of numbers as NumPy's; a tensor's numbers, wherever and of whatever they are."""
    torch = sys.modules.get("torch")  # who has a tensor has imported it
    try:
        if torch is not None and isinstance(waveform, torch.Tensor):
            waveform = waveform.detach().cpu()
            if waveform.is_floating_point():
                waveform = waveform.float()
            return np.asarray(waveform.resolve_neg())
        return np.asarray(waveform)
    except Exception as error:  # anybody's array may raise anything
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise AudioError(f"{name}: {type(waveform).__name__} cannot be made an array of samples: {reason}") from None


def _scaled(array: np.ndarray, name: str) -> np.ndarray:
    """Return ``(sample, channel)`` float32 of numbers of any type."""
    if np.issubdtype(array.dtype, np.floating):
        return array.astype(np.float32, copy=False)
    if array.dtype == np.uint8:
        return (array.astype(np.float32) - 128) / 128
    if array.dtype.kind != "i":  # NumPy counts spans of time among the integers
        raise AudioError(f"{name}: expected floats, or integers with a sign, got {array.dtype}")
    limit = -float(np.iinfo(array.dtype).min)
    largest = max(int(array.max()), -int(array.min()))
    # What is loud for 16 or 24 bits is faint for 32: numbers that changed their type, not their scale, as far as can be told.
    if array.itemsize > 4 or (array.itemsize == 4 and 0 < largest <= _LARGEST_INT24 and (array % _INT16_STEP).any()):
        bits = 16 if largest <= 2**15 else 24 if largest <= _LARGEST_INT24 else 32
        raise AudioError(
            f"{name}: {array.dtype.name} up to {largest}, whose scale is not known; give 16-bit samples as int16, as in "
            f"array.astype('int16'), or floats from -1 to 1, as in array / 2.0**{bits - 1} if they have {bits} bits"
        )
    return array.astype(np.float32) / np.float32(limit)
