"""Training killed at random moments, and its weights compared with those of an unbroken run; see ``scripts/kill-training``."""
