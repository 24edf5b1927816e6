"""Differentiation of the chunk IR."""
