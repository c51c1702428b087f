"""Kernels for CUDA, written for Triton, which is imported on their first use and may be missing.

``available`` decides whether they are used at all; ``lif`` and ``chain`` are the autograd functions; ``traffic`` counts
the bytes that they move. Nothing here is imported with the package.
"""
