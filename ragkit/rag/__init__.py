"""Answers from passages: prompts, mixtures over passages, and the pipeline."""
