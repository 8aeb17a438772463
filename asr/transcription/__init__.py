"""Audio of any length to text, and its writers."""
