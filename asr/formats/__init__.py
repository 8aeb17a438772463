"""Audio files of every format: where their recordings begin and end, and their sound in blocks."""
