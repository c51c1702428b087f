"""Kernels for CUDA, written for Triton, which is imported on their first use and may be missing.

``neuron`` and ``chain`` are the autograd functions; ``launch`` counts the bytes that they move; ``self_check`` compares
them with plain PyTorch. Whether they are used at all is decided in :mod:`idsnn_cli.spiking.kernels` and
:mod:`idsnn_cli.spiking.fused`. Nothing here is imported with the package.
"""
