"""What ``scripts/bench`` measures, a module each; ``python -m`` runs those that need a process of their own."""
