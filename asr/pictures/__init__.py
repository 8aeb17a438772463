"""Everything that asr draws, in one style: plain arrays become figures, and the page of ``asr inspect``."""
