"""Decodes log-probabilities with pyctcdecode, for ``scripts/bench decode``, in the environment that it has made for that.

usage: PYTHON -m benchmarks.pyctcdecode_worker FOLDER

FOLDER/log_probs.npz   ``(frame, token)`` of each utterance; the blank is token 0
FOLDER/settings.json   labels, lm, words, lm_weight, word_score, unknown_score, beam_threshold, beams, runs
FOLDER/pyctcdecode.json is written: for each beam the texts, and the processor time (s) of each run
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
from pyctcdecode import build_ctcdecoder


def main() -> None:
    """Decode all with each beam."""
    folder = Path(sys.argv[1])
    settings = json.loads((folder / "settings.json").read_text())
    arrays = np.load(folder / "log_probs.npz")
    utterances = [arrays[name] for name in arrays.files]
    decoder = build_ctcdecoder(
        settings["labels"],
        settings["lm"],
        settings["words"],
        alpha=settings["lm_weight"],
        beta=settings["word_score"],
        unk_score_offset=settings["unknown_score"],
    )
    results = {}
    for beam in settings["beams"]:
        times = []
        for _ in range(settings["runs"]):
            start = time.process_time()
            texts = [
                decoder.decode(utterance, beam_width=beam, beam_prune_logp=-settings["beam_threshold"])
                for utterance in utterances
            ]
            times.append(time.process_time() - start)
        results[beam] = {"texts": texts, "seconds": times}
    (folder / "pyctcdecode.json").write_text(json.dumps(results))


if __name__ == "__main__":
    main()
