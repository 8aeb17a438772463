"""What happens inside a model while it listens to an utterance, as a page to look at."""
