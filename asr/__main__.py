"""``python -m asr``: the same as the console command ``asr``."""

from __future__ import annotations

import sys

from asr.cli import main

if __name__ == "__main__":
    sys.exit(main())
