"""The kernels of `up_join`: matrix products whose one side is gathered from, or scattered to, the buffer.

A row is an input voxel, a column one channel of one of its eight output voxels ("taps"): column
``tap * Co + co``. A weight of any floating dtype is rounded to x's as it is read; its element (ci, co, tap)
is at ``ci * of_ci + co * of_co + tap * of_tap``. ``launch.py`` launches.
"""
# Triton writes what is known at compile time in capitals and leaves the rest to the call.
# ruff: noqa: N803
# mypy: allow-untyped-defs

import triton
import triton.language as tl


@triton.jit
def _first_output(voxel, height, width):
    """Number of the first of an input voxel's output voxels, in the volume of twice its size."""
    row = voxel // width
    slab = row // height
    return (slab.to(tl.int64) * 4 * height + row % height * 2) * 2 * width + voxel % width * 2


@triton.jit
def _output_of(tap, height, width):
    """How far a tap's output voxel is from the first."""
    return ((tap // 4).to(tl.int64) * 2 * height + tap // 2 % 2) * 2 * width + tap % 2


@triton.jit
def up_join_forward(
    x,
    weight,
    bias,
    joined,
    voxels,
    height,
    width,
    of_ci,
    of_co,
    of_tap,
    CI: tl.constexpr,
    CO: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    STEP: tl.constexpr,
):
    tiles: tl.constexpr = (8 * CO + COLUMNS - 1) // COLUMNS
    program = tl.program_id(0)
    voxel = program // tiles * ROWS + tl.arange(0, ROWS)
    column = program % tiles * COLUMNS + tl.arange(0, COLUMNS)
    tap, co = column // CO, column % CO
    inside, used = (voxel < voxels)[:, None], (column < 8 * CO)[None, :]
    a = x + (voxel.to(tl.int64) * CI)[:, None]
    b = weight + (co * of_co + tap * of_tap)[None, :]
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for k in range(0, CI, STEP):
        ci = k + tl.arange(0, STEP)
        rows = tl.load(a + ci[None, :], mask=inside & (ci < CI)[None, :], other=0.0)
        matrix = tl.load(b + (ci * of_ci)[:, None], mask=(ci < CI)[:, None] & used, other=0.0)
        total = tl.dot(rows, matrix.to(rows.dtype), total, input_precision="ieee")
    shift = tl.load(bias + co, mask=column < 8 * CO, other=0.0)
    total += shift.to(x.dtype.element_ty).to(tl.float32)[None, :]
    to = (_first_output(voxel, height, width) * 2 * CO)[:, None]
    to += (_output_of(tap, height, width) * 2 * CO + co)[None, :]
    tl.store(joined + to, total.to(joined.dtype.element_ty), mask=inside & used)


@triton.jit
def up_join_backward_x(
    dcat,
    weight,
    dx,
    voxels,
    height,
    width,
    of_ci,
    of_co,
    of_tap,
    CI: tl.constexpr,
    CO: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    STEP: tl.constexpr,
):
    tiles: tl.constexpr = (CI + COLUMNS - 1) // COLUMNS
    program = tl.program_id(0)
    voxel = program // tiles * ROWS + tl.arange(0, ROWS)
    ci = program % tiles * COLUMNS + tl.arange(0, COLUMNS)
    inside, used = (voxel < voxels)[:, None], (ci < CI)[None, :]
    a = dcat + (_first_output(voxel, height, width) * 2 * CO)[:, None]
    b = weight + (ci * of_ci)[None, :]
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for k in range(0, 8 * CO, STEP):
        column = k + tl.arange(0, STEP)
        tap, co = column // CO, column % CO
        at = _output_of(tap, height, width) * 2 * CO + co
        filters = co * of_co + tap * of_tap
        grad = tl.load(a + at[None, :], mask=inside & (column < 8 * CO)[None, :], other=0.0)
        matrix = tl.load(b + filters[:, None], mask=(column < 8 * CO)[:, None] & used, other=0.0)
        total = tl.dot(grad, matrix.to(grad.dtype), total, input_precision="ieee")
    to = (voxel.to(tl.int64) * CI)[:, None] + ci[None, :]
    tl.store(dx + to, total.to(dx.dtype.element_ty), mask=inside & used)


@triton.jit
def up_join_backward_weight(
    dcat,
    x,
    partial,
    voxels,
    height,
    width,
    CI: tl.constexpr,
    CO: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    STEP: tl.constexpr,
    CHUNK: tl.constexpr,
):
    """A chunk of voxels' share of the gradients: Ci rows of the weight's and one of the bias's."""
    row_tiles: tl.constexpr = (CI + ROWS - 1) // ROWS
    column_tiles: tl.constexpr = (8 * CO + COLUMNS - 1) // COLUMNS
    program = tl.program_id(0)
    chunk = program // (row_tiles * column_tiles)
    row_tile = program // column_tiles % row_tiles
    ci = row_tile * ROWS + tl.arange(0, ROWS)
    column = program % column_tiles * COLUMNS + tl.arange(0, COLUMNS)
    used = column < 8 * CO
    b = dcat + (_output_of(column // CO, height, width) * 2 * CO + column % CO)[None, :]
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    sums = tl.zeros((COLUMNS,), tl.float32)
    for k in range(0, CHUNK, STEP):
        voxel = chunk * CHUNK + k + tl.arange(0, STEP)
        inside = (voxel < voxels)[:, None]
        a = x + (voxel.to(tl.int64) * CI)[:, None]
        at = (_first_output(voxel, height, width) * 2 * CO)[:, None]
        rows = tl.load(a + ci[None, :], mask=inside & (ci < CI)[None, :], other=0.0)
        grad = tl.load(b + at, mask=inside & used[None, :], other=0.0)
        total = tl.dot(tl.trans(rows), grad, total, input_precision="ieee")
        sums += tl.sum(grad.to(tl.float32), axis=0)
    to = partial + chunk.to(tl.int64) * (CI + 1) * 8 * CO + column
    tl.store(to[None, :] + (ci * 8 * CO)[:, None], total, mask=(ci < CI)[:, None] & used[None, :])
    if row_tile == 0:
        tl.store(to + CI * 8 * CO, sums, mask=used)


@triton.jit
def _merge_bias(
    partial,
    dbias,
    first_channel,
    CI: tl.constexpr,
    CO: tl.constexpr,
    CHUNKS: tl.constexpr,
    ROWS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """Sum the last row of each chunk's share over the chunks and the taps."""
    co = first_channel + tl.arange(0, CHANNELS)
    total = tl.zeros((CHANNELS,), tl.float32)
    for first in range(0, CHUNKS * 8, ROWS):
        row = first + tl.arange(0, ROWS)
        at = (row // 8).to(tl.int64) * ((CI + 1) * 8 * CO) + CI * 8 * CO + row % 8 * CO
        some = (row < CHUNKS * 8)[:, None] & (co < CO)[None, :]
        total += tl.sum(tl.load(partial + at[:, None] + co[None, :], mask=some, other=0.0), axis=0)
    tl.store(dbias + co, total.to(dbias.dtype.element_ty), mask=co < CO)


@triton.jit
def up_join_merge(
    partial,
    dweight,
    dbias,
    of_ci,
    of_co,
    of_tap,
    CI: tl.constexpr,
    CO: tl.constexpr,
    CHUNKS: tl.constexpr,
    PARTS: tl.constexpr,
    ELEMENTS: tl.constexpr,
    BIAS_ROWS: tl.constexpr,
    BIAS_CHANNELS: tl.constexpr,
):
    """Sum the chunks' shares, always in the same order; the last programs do the bias."""
    of_chunk: tl.constexpr = (CI + 1) * 8 * CO
    weight_programs: tl.constexpr = (CI * 8 * CO + ELEMENTS - 1) // ELEMENTS
    program = tl.program_id(0)
    if program < weight_programs:
        element = program * ELEMENTS + tl.arange(0, ELEMENTS)
        used = element < CI * 8 * CO
        total = tl.zeros((ELEMENTS,), tl.float32)
        for first in range(0, CHUNKS, PARTS):
            chunk = first + tl.arange(0, PARTS)
            at = (chunk.to(tl.int64) * of_chunk)[:, None] + element[None, :]
            share = tl.load(partial + at, mask=(chunk < CHUNKS)[:, None] & used[None, :], other=0.0)
            total += tl.sum(share, axis=0)
        ci, tap, co = element // (8 * CO), element // CO % 8, element % CO
        to = ci * of_ci + co * of_co + tap * of_tap
        tl.store(dweight + to, total.to(dweight.dtype.element_ty), mask=used)
    else:
        first_channel = (program - weight_programs) * BIAS_CHANNELS
        _merge_bias(partial, dbias, first_channel, CI, CO, CHUNKS, BIAS_ROWS, BIAS_CHANNELS)
