"""Which audio track of a container is read."""

from __future__ import annotations

from typing import Any

from asr.errors import AudioError
from asr.formats.file import Reading


def choose_track(container: Any, name: str, reading: Reading) -> Any:
    """Return the track that was asked for, or that the file marks as the default, or else the first.

    Parameters
    ----------
    container
        Open in PyAV.
    name
        What to call the file in an error.
    reading
        Which track, and who is told that there are others.

    Raises
    ------
    AudioError
        There is no audio, no such track, or nobody can decode it.
    """
    from av.stream import Disposition

    tracks = container.streams.audio
    if not tracks:
        raise AudioError(f"{name}: holds no audio stream; it may be truncated")
    known = [track for track in tracks if track.codec_context is not None]
    if reading.track is not None:
        if not 0 <= reading.track < len(tracks):
            there = "; ".join(map(_describe, tracks)) if len(tracks) > 1 else "track 0 alone"
            raise AudioError(f"{name}: has no audio track {reading.track}; it has {there}")
        chosen = tracks[reading.track]
    else:
        defaults = [track for track in known if track.disposition & Disposition.default]
        chosen = next(iter(defaults or known), None)
    if chosen not in known:
        raise AudioError(f"{name}: its audio is coded in a way that is not known; it may be corrupt")
    if reading.track is None and len(tracks) > 1 and reading.tell is not None:
        listing, read = "; ".join(map(_describe, tracks)), _describe(chosen)
        reading.tell(f"holds {len(tracks)} audio tracks ({listing}); {read} is read; `asr transcribe --track N` takes another")
    return chosen


def _describe(track: Any) -> str:
    """Return the number of a track, its language and its title."""
    number = next(place for place, other in enumerate(track.container.streams.audio) if other.index == track.index)
    known = [track.metadata.get(key) for key in ("language", "title")]
    named = " ".join(value for value in known if value and value != "und")
    return f"track {number}" + (f" {named}" if named else "")
