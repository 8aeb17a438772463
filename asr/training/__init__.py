"""Training: from prepared manifests to a model package."""

from asr.training.run import train

__all__ = ["train"]
