"""Convolutions, recurrent stack and head."""
