"""Damaged files of every kind that asr reads, and what becomes of them; ``scripts/fuzz`` runs them."""
