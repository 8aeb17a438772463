"""What a score depends on, in one line, so that another can repeat it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from importlib.metadata import version

from asr.version import __version__


def corpus_hash(references: Mapping[str, str]) -> str:
    """Return 12 hexadecimal digits that change with any id or text, and not with the utterances' order."""
    digest = hashlib.sha256()
    for utterance in sorted(references):
        for part in (utterance, references[utterance]):
            content = part.encode("utf-8", "surrogatepass")
            digest.update(len(content).to_bytes(8, "little") + content)
    return digest.hexdigest()[:12]


def signature(*, checkpoint: str, corpus: Sequence[str], references: Mapping[str, str], decoder: str, normaliser: str) -> str:
    """Return a score's signature.

    Parameters
    ----------
    checkpoint
        Hash of the weights.
    corpus
        Names of the manifests.
    references
        Texts by utterance id, those that were scored, as the manifests have them.
    decoder, normaliser
        Their own signatures.

    Returns
    -------
    str
        ``key:value`` pairs joined by ``|``.
    """
    parts = {
        "checkpoint": checkpoint,
        "corpus": "+".join(corpus),
        "texts": corpus_hash(references),
        "utterances": str(len(references)),
        "decoder": decoder,
        "normaliser": normaliser,
        "scorer": f"jiwer-{version('jiwer')}",
        "asr": __version__,
    }
    return "|".join(f"{key}:{value}" for key, value in parts.items())
