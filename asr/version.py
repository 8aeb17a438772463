"""The version of asr."""

__version__ = "0.1.0"
