"""Utterances that a corpus without a development part sets aside for one."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence

from asr.data.validate import Utterance

MIN_SPEAKERS = 10
"""With fewer, a tenth of the speakers would be less than one: utterances are chosen instead."""


def hold_out(utterances: Sequence[Utterance], share: float) -> tuple[list[Utterance], list[Utterance]]:
    """Split utterances in two, whole speakers where there are at least :data:`MIN_SPEAKERS`, else utterance by utterance.

    Which ones follows from a hash of their names alone: the same table gives the same split, on every machine.

    Parameters
    ----------
    utterances
        A part of a corpus.
    share
        Of the utterances that are set aside, between 0 and 1: as near to it as whole speakers allow, and at least one.

    Returns
    -------
    tuple of list
        Those that stay and those that are set aside, both in the order that they had.
    """
    speakers = {utterance.speaker for utterance in utterances}
    by_speaker = len(speakers - {None}) >= MIN_SPEAKERS
    groups: defaultdict[str, list[Utterance]] = defaultdict(list)
    for utterance in utterances:
        groups[(by_speaker and utterance.speaker) or utterance.id].append(utterance)
    wanted = share * len(utterances)
    chosen: set[str] = set()
    n_chosen = 0
    for name in sorted(groups, key=lambda name: hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()):
        size = len(groups[name])
        if chosen and n_chosen + size / 2 > wanted:
            break
        chosen.add(name)
        n_chosen += size
    aside = {id(utterance) for name in chosen for utterance in groups[name]}
    return [u for u in utterances if id(u) not in aside], [u for u in utterances if id(u) in aside]
