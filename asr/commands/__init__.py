"""One thin module a command: it parses, calls, and prints."""
