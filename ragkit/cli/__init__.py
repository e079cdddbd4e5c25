"""The command line: one verb per command; parses, calls, prints."""
