"""What a training has needed."""

from __future__ import annotations

import resource


def peak_memory_gib() -> float:
    """Return the peak memory of the largest process so far: this one, or one it has waited for, such as KenLM's."""
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return round(max(resource.getrusage(kind).ru_maxrss for kind in kinds) / 2**20, 2)
