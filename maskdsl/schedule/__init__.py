"""Schedules: what is stored, what is recomputed, and what it costs."""
