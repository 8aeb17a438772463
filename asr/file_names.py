"""Names that files have in every package, that of an acoustic model and that of a language model."""

from __future__ import annotations

CONFIG_NAME = "config.yaml"
WEIGHTS_NAME = "model.safetensors"
CARD_NAME = "README.md"
