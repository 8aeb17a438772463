"""Manifests and corpora, batches, samplers and augmentation."""
