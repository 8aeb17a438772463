"""A corpus of beeps, a tone for each letter, and a network so small that it learns to read them in seconds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from asr.compose import compose
from asr.config import Config

SAMPLE_RATE = 8000

LEARNING = (
    "trainer.epochs=25",
    "trainer.batch_s=6",
    "augment=none",
    "model.cnn.norm=batch",
    "model.cnn.dropout=0",
    "model.recurrent.norm=batch",
    "model.recurrent.dropout=0",
    "model.head.dropout=0",
)

TONES_HZ = {"a": 500, "b": 1000, "c": 1700, " ": 0}


def beep(text: str, seed: int) -> np.ndarray:
    """Each letter is a tone of 0.15 s, a space is silence."""
    rng = np.random.default_rng(seed)
    time_s = np.arange(int(0.15 * SAMPLE_RATE)) / SAMPLE_RATE
    gap = np.zeros(int(0.05 * SAMPLE_RATE))
    parts = [part for letter in text for part in (0.3 * np.sin(2 * np.pi * TONES_HZ[letter] * time_s), gap)]
    waveform = np.concatenate(parts)
    return (waveform + 0.005 * rng.standard_normal(len(waveform))).astype(np.float32)


def write_corpus(folder: Path, name: str, texts: list[str]) -> None:
    """Write audio and manifest, without the preparation that has tests of its own."""
    lines = []
    (folder / "audio").mkdir(parents=True, exist_ok=True)
    for i, text in enumerate(texts):
        path = folder / "audio" / f"{name}-{i:03}.wav"
        waveform = beep(text, seed=i)
        soundfile.write(path, waveform, SAMPLE_RATE)
        recording = {
            "id": path.stem,
            "sources": [{"type": "file", "channels": [0], "source": str(path)}],
            "sampling_rate": SAMPLE_RATE,
            "num_samples": len(waveform),
            "duration": len(waveform) / SAMPLE_RATE,
            "channel_ids": [0],
        }
        supervision = {
            "id": path.stem,
            "recording_id": path.stem,
            "start": 0.0,
            "duration": recording["duration"],
            "channel": 0,
            "text": text,
        }
        cut = {"id": path.stem, "start": 0.0, "duration": recording["duration"], "channel": 0, "type": "MonoCut"}
        lines.append(json.dumps({**cut, "supervisions": [supervision], "recording": recording}))
    (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")


def small_overrides(corpus: Path) -> list[str]:
    return [
        "tokens.alphabet=' abc'",
        f"corpus.train=[{corpus}/train.jsonl]",
        f"corpus.dev=[{corpus}/dev.jsonl]",
        "frontend.sample_rate=8000",
        "frontend.n_mels=20",
        "augment.time_masks=1",
        "augment.time_mask_s=0.05",
        "model.cnn.channels=[8]",
        "model.cnn.time_kernels=[3]",
        "model.cnn.frequency_kernels=[3]",
        "model.cnn.time_strides=[3]",
        "model.cnn.frequency_strides=[2]",
        "model.recurrent.layers=1",
        "model.recurrent.hidden_size=24",
        "optim.lr=0.02",
        "trainer.epochs=2",
        "trainer.batch_s=12",
        "trainer.accelerator=cpu",
        "trainer.precision=float32",
        "trainer.threads=1",
        "trainer.progress=plain",
    ]


def small_config(corpus: Path, output: Path, *overrides: str) -> Config:
    return compose([*small_overrides(corpus), f"output={output}", *overrides])


def weights(config: Config) -> dict[str, torch.Tensor]:
    """The model's weights in the run's last checkpoint."""
    checkpoint: dict[str, Any] = torch.load(Path(config.output) / "last.ckpt", weights_only=True)
    state: dict[str, torch.Tensor] = checkpoint["state_dict"]
    return state


def assert_equal_weights(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for name, tensor in a.items():
        assert torch.equal(tensor, b[name]), name


def write_beeps(folder: Path) -> Path:
    """Write a corpus with the parts train and dev."""
    rng = np.random.default_rng(7)

    def text() -> str:
        return " ".join("".join(rng.choice(list("abc"), rng.integers(1, 4))) for _ in range(rng.integers(1, 4)))

    write_corpus(folder, "train", [text() for _ in range(48)])
    write_corpus(folder, "dev", [text() for _ in range(8)])
    return folder
