"""What every bootstrap draws: how many replicates, and from which seed, so that a figure repeats."""

from __future__ import annotations

REPLICATES = 2000
SEED = 20240501
