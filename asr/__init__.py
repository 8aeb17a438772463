"""A speech recogniser: convolutions, recurrent layers and connectionist temporal classification.

>>> import asr
>>> recogniser = asr.load_model()  # doctest: +SKIP
>>> recogniser.transcribe("talk.mp3").text  # doctest: +SKIP
'so we set out again'

Nothing heavy is imported before it is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from asr.version import __version__

if TYPE_CHECKING:
    from asr.transcription.recogniser import Recogniser as Recogniser

__all__ = ["Recogniser", "__version__", "load_model"]


def load_model(
    path: str | Path | None = None,
    *,
    device: str = "cpu",
    words: bool = False,
    decoding: Mapping[str, object] | None = None,
    vad: bool = True,
    channel: int | None = None,
    track: int | None = None,
    keep_going: bool = False,
) -> Recogniser:
    """Read a model package and return its recogniser.

    Parameters
    ----------
    path
        Folder of the model package, or the name of a model that ships with asr. By default what the environment variable
        ``ASR_MODEL`` names, else the default model, if it ships.
    device
        Where the network runs: ``cpu``, ``cuda``, ``cuda:1``, ...
    words
        Find the times and confidences of words as well.
    decoding
        Settings of the decoder in place of the package's own, such as ``{"kind": "beam", "hot_words": ["quilter", "bisham"]}``.
    vad
        Give the network only what a voice activity detector takes for speech; otherwise all of the audio.
    channel
        The channel to take, counted from 0; by default the mean of all.
    track
        The audio track of a file to take, counted from 0; by default the one that the file marks as its default.
    keep_going
        Transcribe what can be read of damaged files, and name what is lost; otherwise they are errors.

    Raises
    ------
    asr.errors.ConfigError
        For a setting that cannot be, a mistyped name, or where no model is named and none ships.
    asr.errors.PackageError
        Where the folder holds no model package that this version can read.
    """
    from asr.package.load import read_package, with_decoding
    from asr.package.shipped import find_model
    from asr.transcription.recogniser import Recogniser

    package = read_package(find_model(path), device)
    package = with_decoding(package, decoding) if decoding else package
    return Recogniser(package, words=words, vad=vad, channel=channel, track=track, keep_going=keep_going)


def __getattr__(name: str) -> object:
    if name == "Recogniser":
        from asr.transcription.recogniser import Recogniser

        return Recogniser
    raise AttributeError(f"module 'asr' has no attribute {name!r}")
