"""Speech synthesisers behind one small protocol."""

from __future__ import annotations

from asr.speech.synthesiser import ENGINES, Origin, Synthesiser, make_synthesiser

__all__ = ["ENGINES", "Origin", "Synthesiser", "make_synthesiser"]
