"""Retrieval-augmented dual instruction tuning (Lin et al. 2023, arXiv:2310.01352)."""
