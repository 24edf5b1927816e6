"""Mask IR, its laws and its normal form."""
