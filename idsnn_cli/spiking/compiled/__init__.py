"""BatchNorm, addition and neuron in one pass on the CPU, compiled by numba (the extra ``fast``)."""
