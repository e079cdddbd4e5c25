"""Recipes: one YAML file per run, grouped by task."""
