"""The step of one token as a Triton kernel: `maskdsl.lowering.step` printed one node at a time.

A program has one head of one sequence. The axes of a value that matter there are levels (M), the slots of a ring (R),
and the channels of keys and values (K, V); a tile has those along which its values differ, always in this order, so
that no tile is ever transposed. Levels are gone through one by one, slots a tile at a time.
"""
