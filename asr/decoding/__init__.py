"""Log-probabilities to text.

A decoder is built from its settings and the files that they name (:mod:`asr.decoding.builders`). It searches the network's
log-probabilities for the best sequences of tokens (:mod:`asr.decoding.search`) with what language models say to them
(:mod:`asr.decoding.scorers`), and makes hypotheses of what it finds (:mod:`asr.decoding.decoders`), whose words then get times
and confidences (:mod:`asr.decoding.words`). Nothing is imported before it is used: the processes that search need no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asr.decoding.builders.build import build_decoder as build_decoder
    from asr.decoding.decoders.decoder import Decoder as Decoder
    from asr.decoding.decoders.greedy import GreedyDecoder as GreedyDecoder
    from asr.decoding.hypothesis import Hypothesis as Hypothesis
    from asr.decoding.hypothesis import Word as Word

__all__ = ["Decoder", "GreedyDecoder", "Hypothesis", "Word", "build_decoder"]

_MODULES = {
    "build_decoder": "builders.build",
    "Decoder": "decoders.decoder",
    "GreedyDecoder": "decoders.greedy",
    "Hypothesis": "hypothesis",
    "Word": "hypothesis",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"asr.decoding.{_MODULES[name]}"), name)
