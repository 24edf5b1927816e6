"""The Triton backend: generated modules of kernels, compiled, launched and differentiated."""
