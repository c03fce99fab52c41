# Any NVIDIA PyTorch image with torch 2.11 to 2.13; apex, DALI, torch and Triton come with it and stay as they are.
ARG FROM_IMAGE_NAME=nvcr.io/nvidia/pytorch:26.03-py3
FROM ${FROM_IMAGE_NAME}

SHELL ["/bin/bash", "-o", "pipefail", "-c"]
WORKDIR /workspace/unet3d
COPY requirements.txt .
RUN grep -vE '^(torch|nvidia-dali|numpy)' requirements.txt | pip install --no-cache-dir -r /dev/stdin \
    && python -c 'import apex.optimizers, nvidia.dali, torch, triton'
COPY . .
