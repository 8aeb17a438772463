"""The engine that trains any network: Lightning, with checkpoints of our own, an exact resume and a clean stop."""
