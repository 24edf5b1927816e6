"""What a backend says of a spec that it has no programs for."""

from __future__ import annotations


class Unsupported(Exception):
    """A spec, or sizes of one, outside what a backend generates programs for; the message is a sentence."""


class SharedSum(Unsupported):
    """A sum that several programs share, each for its tile of V, stands where it must be whole."""
