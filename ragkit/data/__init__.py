"""From files to passages: readers and chunkers. Imports no torch."""
