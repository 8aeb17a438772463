"""Log-probabilities to text.

Nothing is imported before it is used: the processes that :mod:`asr.decoding.pool` starts need little of it, and no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asr.decoding.build import build_decoder as build_decoder
    from asr.decoding.decoder import Decoder as Decoder
    from asr.decoding.greedy import GreedyDecoder as GreedyDecoder
    from asr.decoding.hypothesis import Hypothesis as Hypothesis
    from asr.decoding.hypothesis import Word as Word

__all__ = ["Decoder", "GreedyDecoder", "Hypothesis", "Word", "build_decoder"]

_MODULES = {
    "build_decoder": "build",
    "Decoder": "decoder",
    "GreedyDecoder": "greedy",
    "Hypothesis": "hypothesis",
    "Word": "hypothesis",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"asr.decoding.{_MODULES[name]}"), name)
