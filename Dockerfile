# Any NVIDIA PyTorch image with torch 2.11 to 2.13: its torch, DALI, Triton and (where it has one) apex stay.
ARG FROM_IMAGE_NAME=nvcr.io/nvidia/pytorch:26.03-py3
FROM ${FROM_IMAGE_NAME}

SHELL ["/bin/bash", "-o", "pipefail", "-c"]
WORKDIR /workspace/unet3d
COPY requirements.txt .
# Only what the image lacks, and past the image's own constraints, which pin what it has.
RUN grep -E '^(nibabel|isal|connected-components-3d|mlperf-logging|matplotlib|nvidia-ml-py|rich)==' requirements.txt \
    | PIP_CONSTRAINT='' pip install --no-cache-dir -r /dev/stdin \
    && python -c 'import cc3d, isal, matplotlib, mlperf_logging, nibabel, nvidia.dali, pynvml, rich, torch, triton'
COPY . .
