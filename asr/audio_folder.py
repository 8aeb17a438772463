"""Which files of a folder are recordings."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from asr.errors import DataError

_LOSSLESS = "flac wav wave rf64 bwf w64 aif aiff aifc caf au snd sph nist voc tta wv ape"
_LOSSY = "opus ogg oga spx mp3 mpga mp2 m2a mpa m4a m4b m4r aac adts ac3 eac3 ec3 amr awb wma mka weba"
_VIDEO = "mp4 m4v mov qt f4v f4a 3gp 3gpp 3g2 3ga mkv webm ogv ogx avi flv wmv asf mpg mpeg vob ts mts m2ts m2t"
AUDIO_ENDINGS = tuple(f".{ending}" for ending in f"{_LOSSLESS} {_LOSSY} {_VIDEO}".split())
"""How the files end that are taken from a folder: all that :mod:`asr.audio` reads, the most faithful formats first."""

_HIDDEN = "hidden"
_NO_ENDING = "without an ending"
_MOST_KINDS = 5


@dataclass(frozen=True)
class AudioFolder:
    """The recordings below a folder.

    Attributes
    ----------
    paths
        All files that end as audio does, in order.
    passed_over
        How many other files there are of each ending. Of hidden files, those are counted that end as audio does.
    """

    paths: tuple[Path, ...]
    passed_over: Counter[str]

    @property
    def notice(self) -> str | None:
        """What was passed over, in words; None if nothing was."""
        if not self.passed_over:
            return None
        kinds = [f"{count} {kind}" for kind, count in sorted(self.passed_over.items(), key=lambda item: (-item[1], item[0]))]
        shown = ", ".join(kinds[:_MOST_KINDS]) + (", ..." if len(kinds) > _MOST_KINDS else "")
        return f"passed over what does not end as audio does or is hidden, {self.passed_over.total()} in all: {shown}"


def find_audio(folder: Path) -> AudioFolder:
    """Find the recordings below a folder, also behind links, each folder once; hidden files and folders are left out.

    Raises
    ------
    DataError
        A folder cannot be read, or holds no audio.
    """
    paths: list[Path] = []
    passed_over: Counter[str] = Counter()
    seen: set[tuple[int, int]] = set()
    for place, folders, names in os.walk(folder, onerror=_unreadable, followlinks=True):
        status = os.stat(place)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if (status.st_dev, status.st_ino) in seen:  # a link to a folder above
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        for name in names:
            path = Path(place, name)
            is_audio, is_hidden = path.suffix.lower() in AUDIO_ENDINGS, name.startswith(".")
            if is_audio and not is_hidden:
                paths.append(path)
            elif is_audio or not is_hidden:
                passed_over[_HIDDEN if is_hidden else path.suffix.lower() or _NO_ENDING] += 1
    found = AudioFolder(tuple(sorted(paths)), passed_over)
    if not paths:
        raise DataError(
            f"{folder}: no audio file is below this folder{f'; {found.notice}' if found.notice else ''}; "
            f"expected names that end in {', '.join(AUDIO_ENDINGS)}"
        )
    return found


def _unreadable(error: OSError) -> NoReturn:
    raise DataError(f"{error.filename}: cannot look into this folder: {error.strerror}; name its files one by one") from None
