"""Lowering: normal form to chunk IR."""
