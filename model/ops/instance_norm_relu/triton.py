"""Instance norm and (leaky) ReLU as Triton kernels on ``channels_last_3d`` tensors.

Forward and backward take three launches each: partial results of every chunk of every sample, their merge,
and the pass that writes. Nothing is added atomically, so the order of additions depends on the shape alone.
The formulas are those of ``reference.py``. ``launch.py`` launches, on a grid of (blocks of channels, chunks
of a sample, samples), and of (blocks of channels, samples) to merge. A tensor of the size of x comes with its
strides from sample to sample and from voxel to voxel.
"""
# Triton writes what is known at compile time in capitals and leaves the rest to the call.
# ruff: noqa: N803
# mypy: allow-untyped-defs

import triton
import triton.language as tl


@triton.jit
def _channels(channels, BLOCK: tl.constexpr):
    """The program's channels and which of them exist."""
    channel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    return channel, channel < channels


@triton.jit
def _voxels(chunk, tile, exists, voxels, ROWS: tl.constexpr, TILES: tl.constexpr):
    """A tile's voxels as a column, int64 because strides multiply them, and which elements of it exist."""
    voxel = chunk.to(tl.int64) * (ROWS * TILES) + tile * ROWS + tl.arange(0, ROWS)
    return voxel[:, None], (voxel < voxels)[:, None] & exists[None, :]


@triton.jit
def _load(pointer, sample_stride, voxel_stride, voxel, channel, inside):
    """A tile in float32, zero where nothing exists. Upcast at once: 16 bits are for storage."""
    offset = tl.program_id(2).to(tl.int64) * sample_stride + voxel * voxel_stride + channel[None, :]
    return tl.load(pointer + offset, mask=inside, other=0.0).to(tl.float32)


@triton.jit
def _store(pointer, sample_stride, voxel_stride, voxel, channel, inside, value):
    offset = tl.program_id(2).to(tl.int64) * sample_stride + voxel * voxel_stride + channel[None, :]
    tl.store(pointer + offset, value, mask=inside)


@triton.jit
def _row(pointer, channel, exists):
    """One number per channel, float32 [1, BLOCK]."""
    return tl.load(pointer + channel, mask=exists, other=0.0).to(tl.float32)[None, :]


@triton.jit
def _activated(z, value, SLOPE: tl.constexpr):
    """``value`` where z > 0, else SLOPE * value; 0 for ReLU, whatever the value. A NaN is not hidden."""
    closed = 0.0 if SLOPE == 0 else value * SLOPE
    return tl.where(z <= 0, closed, value)


@triton.jit
def _merged(count, mean, m2):
    """Mean and sum of squared deviations of the union of R parts per channel: Chan et al. for all at once.

    ``count`` is [R, 1], ``mean`` and ``m2`` are [R, BLOCK]; a part may be empty. The mean is summed a second
    time as its distance from the first sum, which a mean of many standard deviations has rounded.
    """
    total = tl.sum(count, axis=0)
    centre = tl.sum(count * mean, axis=0) / total
    centre += tl.sum(count * (mean - centre[None, :]), axis=0) / total
    off = mean - centre[None, :]
    return centre, tl.sum(m2 + count * off * off, axis=0)


@triton.jit
def chunk_statistics(
    x, x_sample, x_voxel, partial, channels, voxels,
    ROWS: tl.constexpr, BLOCK: tl.constexpr, TILES: tl.constexpr,
):  # fmt: skip
    """Mean and sum of squared deviations of one chunk: Welford in every lane, then the lanes' merge.

    ``partial`` is float32 [2, N, chunks, C].
    """
    channel, exists = _channels(channels, BLOCK)
    chunk = tl.program_id(1)
    count = tl.zeros([ROWS, 1], tl.float32)
    mean = tl.zeros([ROWS, BLOCK], tl.float32)
    m2 = tl.zeros([ROWS, BLOCK], tl.float32)
    for tile in range(TILES):
        voxel, inside = _voxels(chunk, tile, exists, voxels, ROWS, TILES)
        value = _load(x, x_sample, x_voxel, voxel, channel, inside)
        count += (voxel < voxels).to(tl.float32)
        # Voxels end once: a lane that has one now had one in every tile before.
        share = 1.0 / (tile + 1)
        delta = tl.where(inside, value - mean, 0.0)
        mean += delta * share
        m2 += delta * (value - mean)
    mean_of_all, m2_of_all = _merged(count, mean, m2)
    place = (tl.program_id(2).to(tl.int64) * tl.num_programs(1) + chunk) * channels + channel
    plane = tl.num_programs(2).to(tl.int64) * tl.num_programs(1) * channels
    tl.store(partial + place, mean_of_all, mask=exists)
    tl.store(partial + plane + place, m2_of_all, mask=exists)


@triton.jit
def _partials(partial, plane, sample, samples, chunks, channels, channel, exists, PARTS: tl.constexpr):
    """One sample's partial results of a plane of [2, N, chunks, C], as [PARTS, BLOCK]; zero beyond them."""
    part = tl.arange(0, PARTS)[:, None]
    first = (samples * plane + sample).to(tl.int64) * chunks
    inside = (part < chunks) & exists[None, :]
    return tl.load(partial + (first + part) * channels + channel[None, :], mask=inside, other=0.0)


@triton.jit
def merge_statistics(
    partial, mean, rstd, channels, voxels, chunk_voxels, chunks, eps,
    PARTS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """mean and 1 / sqrt(variance + eps), float32 [N, C], from all chunks of a sample."""
    channel, exists = _channels(channels, BLOCK)
    sample, samples = tl.program_id(1), tl.num_programs(1)
    means = _partials(partial, 0, sample, samples, chunks, channels, channel, exists, PARTS)
    m2s = _partials(partial, 1, sample, samples, chunks, channels, channel, exists, PARTS)
    left = voxels - tl.arange(0, PARTS).to(tl.int64) * chunk_voxels
    count = tl.minimum(tl.maximum(left, 0), chunk_voxels).to(tl.float32)[:, None]
    mean_of_all, m2_of_all = _merged(count, means, m2s)
    place = sample * channels + channel
    tl.store(mean + place, mean_of_all, mask=exists)
    tl.store(rstd + place, 1.0 / tl.sqrt_rn(m2_of_all / voxels + eps), mask=exists)


@triton.jit
def normalize(
    x, x_sample, x_voxel, y, y_sample, y_voxel, copy, copy_sample, copy_voxel,
    mean, rstd, weight, bias, channels, voxels,
    SLOPE: tl.constexpr, COPY: tl.constexpr,
    ROWS: tl.constexpr, BLOCK: tl.constexpr, TILES: tl.constexpr,
):  # fmt: skip
    """leaky_relu((x - mean) * (rstd * weight) + bias), to y and to its copy."""
    channel, exists = _channels(channels, BLOCK)
    # Backwards, for the statistics left the end of x in the cache.
    chunk = tl.num_programs(1) - 1 - tl.program_id(1)
    statistic = tl.program_id(2) * channels
    centre = _row(mean + statistic, channel, exists)
    scale = _row(rstd + statistic, channel, exists) * _row(weight, channel, exists)
    shift = _row(bias, channel, exists)
    for tile in range(TILES):
        voxel, inside = _voxels(chunk, tile, exists, voxels, ROWS, TILES)
        centred = _load(x, x_sample, x_voxel, voxel, channel, inside) - centre
        # Said outright, so that a later call rounds alike, with or without a copy, and so does the backward.
        z = tl.fma(centred, scale, shift)
        value = _activated(z, z, SLOPE)
        _store(y, y_sample, y_voxel, voxel, channel, inside, value)
        if COPY:
            _store(copy, copy_sample, copy_voxel, voxel, channel, inside, value)


@triton.jit
def _gradient(
    dy, dy_sample, dy_voxel, dskip, dskip_sample, dskip_voxel, x, x_sample, x_voxel,
    centre, deviation, scale, shift, voxel, channel, inside, SLOPE: tl.constexpr, SKIP: tl.constexpr,
):  # fmt: skip
    """A tile of the gradient before the activation, zero where nothing exists, and of xhat."""
    gradient = _load(dy, dy_sample, dy_voxel, voxel, channel, inside)
    if SKIP:
        gradient += _load(dskip, dskip_sample, dskip_voxel, voxel, channel, inside)
    centred = _load(x, x_sample, x_voxel, voxel, channel, inside) - centre
    return _activated(tl.fma(centred, scale, shift), gradient, SLOPE), centred * deviation


@triton.jit
def chunk_sums(
    dy, dy_sample, dy_voxel, dskip, dskip_sample, dskip_voxel, x, x_sample, x_voxel,
    mean, rstd, weight, bias, partial, channels, voxels,
    SLOPE: tl.constexpr, SKIP: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr, TILES: tl.constexpr,
):  # fmt: skip
    """sum(d) and sum(d * xhat) of one chunk, to float32 [2, N, chunks, C]."""
    channel, exists = _channels(channels, BLOCK)
    chunk = tl.program_id(1)
    statistic = tl.program_id(2) * channels
    centre, deviation = _row(mean + statistic, channel, exists), _row(rstd + statistic, channel, exists)
    scale, shift = deviation * _row(weight, channel, exists), _row(bias, channel, exists)
    along_one = tl.zeros([ROWS, BLOCK], tl.float32)
    along_xhat = tl.zeros([ROWS, BLOCK], tl.float32)
    for tile in range(TILES):
        voxel, inside = _voxels(chunk, tile, exists, voxels, ROWS, TILES)
        d, xhat = _gradient(
            dy, dy_sample, dy_voxel, dskip, dskip_sample, dskip_voxel, x, x_sample, x_voxel,
            centre, deviation, scale, shift, voxel, channel, inside, SLOPE, SKIP,
        )  # fmt: skip
        along_one += d
        along_xhat += d * xhat
    place = (tl.program_id(2).to(tl.int64) * tl.num_programs(1) + chunk) * channels + channel
    plane = tl.num_programs(2).to(tl.int64) * tl.num_programs(1) * channels
    tl.store(partial + place, tl.sum(along_one, axis=0), mask=exists)
    tl.store(partial + plane + place, tl.sum(along_xhat, axis=0), mask=exists)


@triton.jit
def merge_sums(
    partial, sums, dweight, dbias, samples, channels, chunks, PARTS: tl.constexpr, BLOCK: tl.constexpr
):
    """Every sample's sums to float32 [2, N, C], and their totals: the gradients of bias and weight."""
    channel, exists = _channels(channels, BLOCK)
    along_one = tl.zeros([BLOCK], tl.float32)
    along_xhat = tl.zeros([BLOCK], tl.float32)
    sample = 0
    while sample < samples:
        place = sample * channels + channel
        ones = _partials(partial, 0, sample, samples, chunks, channels, channel, exists, PARTS)
        xhats = _partials(partial, 1, sample, samples, chunks, channels, channel, exists, PARTS)
        one, xhat = tl.sum(ones, axis=0), tl.sum(xhats, axis=0)
        tl.store(sums + place, one, mask=exists)
        tl.store(sums + samples * channels + place, xhat, mask=exists)
        along_one += one
        along_xhat += xhat
        sample += 1
    tl.store(dbias + channel, along_one, mask=exists)
    tl.store(dweight + channel, along_xhat, mask=exists)


@triton.jit
def input_gradient(
    dy, dy_sample, dy_voxel, dskip, dskip_sample, dskip_voxel, x, x_sample, x_voxel, dx, dx_sample, dx_voxel,
    mean, rstd, weight, bias, sums, samples, channels, voxels,
    SLOPE: tl.constexpr, SKIP: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr, TILES: tl.constexpr,
):  # fmt: skip
    """weight * rstd * (d - sum(d) / V - xhat * sum(d * xhat) / V)."""
    channel, exists = _channels(channels, BLOCK)
    chunk = tl.num_programs(1) - 1 - tl.program_id(1)
    statistic = tl.program_id(2) * channels
    centre, deviation = _row(mean + statistic, channel, exists), _row(rstd + statistic, channel, exists)
    scale, shift = deviation * _row(weight, channel, exists), _row(bias, channel, exists)
    along_one = _row(sums + statistic, channel, exists) / voxels
    along_xhat = _row(sums + samples * channels + statistic, channel, exists) / voxels
    for tile in range(TILES):
        voxel, inside = _voxels(chunk, tile, exists, voxels, ROWS, TILES)
        d, xhat = _gradient(
            dy, dy_sample, dy_voxel, dskip, dskip_sample, dskip_voxel, x, x_sample, x_voxel,
            centre, deviation, scale, shift, voxel, channel, inside, SLOPE, SKIP,
        )  # fmt: skip
        value = (d - along_one - xhat * along_xhat) * scale
        _store(dx, dx_sample, dx_voxel, voxel, channel, inside, value)
