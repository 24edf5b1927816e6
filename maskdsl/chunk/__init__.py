"""Chunk IR: a small tensor language at the level of one chunk and of the graph between chunks."""
