"""Scheduled chunk IR as Triton kernels."""
