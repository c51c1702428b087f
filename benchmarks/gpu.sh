#!/usr/bin/env bash
# Everything that a GPU must show, in one command: the GPU tests, then the step benchmark on CUDA.
#
#     benchmarks/gpu.sh [cuda | cuda:N]
#
# THIS HAS NOT RUN ON A GPU YET. The kernels were tested in Triton's interpreter and compiled for sm_90 without one.
#
# Prints the table of benchmarks/step.py and the project's targets on one H100 beside it, and writes
# benchmarks/results/<device>.json: seconds, images a second, peaks (of torch's allocator), naive over ours, the share
# of the convolutions' own time, seconds of an epoch of 50,000 images, and the share of the measured copy bandwidth
# that the chain of BatchNorm and neuron reaches. Needs torch with CUDA, Triton and the package's dev requirements.
set -euo pipefail
cd "$(dirname "$0")/.."
device="${1:-cuda}"
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
unset TRITON_INTERPRET IDSNN_FUSED

name=$(python - "$device" <<'PYTHON'
import re
import sys

import torch

if not torch.cuda.is_available():
    sys.exit("gpu.sh: torch finds no usable CUDA GPU")
print(re.sub(r"[^a-z0-9]+", "-", torch.cuda.get_device_name(sys.argv[1]).lower()).strip("-"))
PYTHON
)

python -m pytest -q tests/spiking tests/training/test_step_graph.py
python benchmarks/step.py --device "$device" --rounds 15 --output "benchmarks/results/$name.json"
echo
echo "targets on one H100: distill-b64 naive/ours at least 8 and memory at most 0.50;"
echo "epoch-b64 at most 8 s, epoch-b256 at most 5 s; chain and chain-residual of copy at least 0.70"
