"""Layers that know no model: norms, rotary positions, attention, feed-forward, losses."""
