"""What FFmpeg's command reads of a file, to compare with what asr reads."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np

from fuzzing.watched import Silent

SAMPLE_RATE = 16000
_LIMIT_S = 20.0
_LEAST_S = 0.25
_SHARE = 0.9  # of the length that FFmpeg finds
_ENERGY_SHARE = 0.2  # of what it hears; damage sounds otherwise in another decoder, and G.721 twice as loud


def ffmpeg_reads(path: Path, track: int = 0) -> np.ndarray | None:
    """Return ``(sample,)`` float32 of a track at 16 kHz, without gaps; None without FFmpeg, or where it reads nothing."""
    program = shutil.which("ffmpeg")
    if program is None:
        return None
    command = [program, "-v", "quiet", "-nostdin", "-i", str(path), "-map", f"0:a:{track}", "-ac", "1", "-ar", str(SAMPLE_RATE)]
    command += ["-af", "aresample=rematrix_maxval=1.0"]  # else equal channels become louder
    try:
        result = subprocess.run([*command, "-f", "f32le", "-"], capture_output=True, timeout=_LIMIT_S)
    except subprocess.TimeoutExpired:
        return None
    waveform = np.frombuffer(result.stdout[: len(result.stdout) // 4 * 4], "<f4")
    return waveform if len(waveform) else None


def compare(waveform: np.ndarray, path: Path, track: int = 0) -> None:
    """Compare with FFmpeg what was read at 16 kHz without a word of damage.

    Raises
    ------
    Silent
        FFmpeg reads clearly more.
    """
    other = ffmpeg_reads(path, track)
    if other is None:
        return
    length_s, other_s = len(waveform) / SAMPLE_RATE, len(other) / SAMPLE_RATE
    if length_s < _SHARE * other_s and other_s - length_s > _LEAST_S:
        raise Silent(f"{length_s:.2f} s were read, FFmpeg reads {other_s:.2f} s")
    energy, other_energy = _energy(waveform), _energy(other)
    if energy < _ENERGY_SHARE * other_energy and other_energy > 1 and other_s > 1:
        raise Silent(f"an energy of {energy:.3g} was read, FFmpeg reads {other_energy:.3g}")


def _energy(waveform: np.ndarray) -> float:
    return float(np.square(np.clip(waveform, -1, 1), dtype=np.float64).sum())
