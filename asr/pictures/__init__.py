"""Everything that asr draws, in one style: plain data become figures, the page of ``asr inspect`` and reports."""
