"""Scalar expressions: sympy payloads, their signs and ranges, and their printers."""
