"""What there is to do in each section: the items, the most wanted first."""

from dataclasses import asdict

from benchmark.gpu_check.commands import gpu_tests
from benchmark.gpu_check.feedings import installed
from benchmark.gpu_check.journal import Journal
from benchmark.gpu_check.ladder import ALL_OPS, BFLOAT16, FLOAT16, flags_of, for_cpu, points
from benchmark.gpu_check.layers import distinct, distinct_norms, flops_per_image, layers, norms
from benchmark.gpu_check.plan import Item, Items, Plan
from benchmark.gpu_check.scale import Scale

SIXTEEN_BITS = ("bfloat16", "float16")
PREPARING_S = 150.0
"""What torch.compile, or cuDNN's search, may take for the network."""
HUGE_BATCH = 33
"""With 32 channels of 128^3 voxels the 33rd sample begins at element 2^31, where 32-bit offsets wrap."""
HUGE_BATCH_JOINED = 17
"""The same for a concatenation, which has 64."""


def ceilings(plan: Plan, journal: Journal) -> Items:
    """Arithmetic in both 16-bit dtypes, and memory."""
    found = [("matmul", "bfloat16"), ("copy", "bfloat16"), ("matmul", "float16")]
    return [Item(f"{what} {dtype}", {"what": what, "dtype": dtype}) for what, dtype in found]


def _known(journal: Journal, dtype: str) -> dict[str, float]:
    """The ceilings that were measured: ``tflops`` of this dtype, ``gbps``."""
    found = {}
    for values in journal.values("ceilings"):
        if values["what"] == "copy":
            found["gbps"] = values["gbps"]
        elif values["dtype"] == dtype:
            found["tflops"] = values["tflops"]
    return found


def operations(scale: Scale, batch: int) -> list[tuple[str, list[str], dict[str, int]]]:
    """Every fused operation at every shape of the network: its name in `problems`, layers, and arguments."""
    found: list[tuple[str, list[str], dict[str, int]]] = []
    every = norms(scale.filters, scale.patch)
    for norm, names in distinct_norms(every).items():
        found.append(("norm", names, {"batch": batch, "channels": norm.channels, "edge": norm.edge}))
    for norm in every:
        if norm.joins:
            shape = {"batch": batch, "channels": norm.channels, "edge": norm.edge, "joined": 1}
            found.append(("norm", [norm.name], shape))
    for layer in layers(scale.filters, scale.patch):
        sizes = {"batch": batch, "inputs": layer.inputs, "outputs": layer.outputs, "edge": layer.edge}
        if layer.kind == "transposed":
            found.append(("transposed", [layer.name], sizes))
    first = scale.filters[0]
    return [
        *found,
        ("loss", ["loss"], {"batch": batch, "edge": scale.patch}),
        ("stem", ["in.c1"], {"batch": batch, "outputs": first, "edge": scale.patch}),
        ("head", ["out"], {"batch": batch, "inputs": first, "edge": scale.patch}),
    ]


def exactness(plan: Plan, journal: Journal) -> Items:
    """All operations in all dtypes at the small batch; the largest also at the large one, and beyond 2^31."""
    scale, found = plan.scale, []
    small, large = operations(scale, scale.small_batch), operations(scale, scale.large_batch)
    # The large shapes of a kind come first: a small one is least likely to be wrong alone.
    for dtype in scale.dtypes:
        found += [_exact(dtype, *one) for one in small]
        found += [
            _exact(dtype, *one) for one in large if one[2]["edge"] == scale.patch and dtype in SIXTEEN_BITS
        ]
        found.append(_exact(dtype, "windows", ["evaluation"], {"batch": 8, "edge": scale.patch}))
    if not scale.dry:
        for op, names, shape in large:
            if shape["edge"] == scale.patch and op != "loss":
                doubled = op == "transposed" or shape.get("joined")
                batch = HUGE_BATCH_JOINED if doubled else HUGE_BATCH
                found.append(_exact(scale.dtypes[0], op, names, shape | {"batch": batch}, alone=True))
    else:
        found.append(Item("bfloat16", not_here="needs CUDA: the interpreter truncates where a GPU rounds"))
    return found


def _exact(dtype: str, op: str, names: list[str], shape: dict[str, int], alone: bool = False) -> Item:
    what = "norm joined" if shape.get("joined") else op
    where = "" if names == [op] else f" {'='.join(names)}"
    name = f"{what}{where} {dtype} batch {shape['batch']}"
    return Item(name, {"op": op, "dtype": dtype, "shape": shape}, alone=alone)


def ladder(plan: Plan, journal: Journal) -> Items:
    """The rungs, each at its batch."""
    return _steps(plan, slow=False)


def preparing(plan: Plan, journal: Journal) -> Items:
    """The rungs that take long before their first step."""
    return _steps(plan, slow=True)


def _steps(plan: Plan, slow: bool) -> Items:
    scale, found = plan.scale, []
    _, flops = flops_per_image(scale.filters, scale.patch)
    batches = {"large": scale.large_batch, "small": scale.small_batch}
    for one, size in points(slow):
        arguments = {"flags": flags_of(scale, one), "batch": batches[size], "flops_per_image": flops}
        not_here = "needs CUDA: " + one.what if scale.dry and one.needs_cuda else ""
        name = f"{one.name} batch {batches[size]}"
        limit_s = PREPARING_S if slow else 90.0
        found.append(Item(name, arguments, limit_s, fresh=slow, not_here=not_here))
    return found


def convolutions(plan: Plan, journal: Journal) -> Items:
    """Every shape in both 16-bit dtypes at the large batch."""
    scale = plan.scale
    return [
        Item(
            f"{'='.join(names)} {dtype}",
            {
                "layer": asdict(layer),
                "names": names,
                "dtype": dtype,
                "batch": scale.large_batch,
                "ceilings": _known(journal, dtype),
            },
        )
        for dtype in SIXTEEN_BITS
        for layer, names in distinct(layers(scale.filters, scale.patch)).items()
    ]


def fusions(plan: Plan, journal: Journal) -> Items:
    """Every fused operation at the large batch, in bfloat16 (in a dry run float16)."""
    scale, dtype = plan.scale, plan.scale.dtypes[0]
    common = {"dtype": dtype, "ceilings": _known(journal, dtype)}
    return [
        Item(
            op if names == [op] else f"{op} {'='.join(names)}",
            {"op": op, "names": names, "shape": shape} | common,
        )
        for op, names, shape in operations(scale, scale.large_batch)
        if not shape.get("joined")
    ]


def curves(plan: Plan, journal: Journal) -> Items:
    """The two curves to compare, and other native runs that say what is no difference."""
    native, dry = ("--fused", "native"), plan.scale.dry
    wanted: dict[str, tuple[str, ...]] = {
        "native": (*BFLOAT16, *native),
        "fused": (*BFLOAT16, *ALL_OPS),
        "native again": (*BFLOAT16, *native),
        "native in float16": (*FLOAT16, *native),
    }
    return [
        Item(
            name,
            {"flags": for_cpu(flags, interpret=False) if dry else list(flags), "layout": "NDHWC", "seed": 1},
        )
        for name, flags in wanted.items()
    ]


def kernels(plan: Plan, journal: Journal) -> Items:
    """One profile of all layers."""
    scale = plan.scale
    every = [asdict(layer) for layer in distinct(layers(scale.filters, scale.patch))]
    return [Item("bfloat16", {"layers": every, "dtype": "bfloat16", "batch": scale.small_batch}, 90.0)]


def tests(plan: Plan, journal: Journal) -> Items:
    """All that carry the mark; in a dry run those of one file, which are skipped."""
    if not installed("pytest"):
        return [Item("pytest -m gpu", not_here="not run: pytest is not installed")]
    files = ["tests/numerics/test_gpu.py"] if plan.scale.dry else gpu_tests()
    return [Item("pytest -m gpu", {"files": files, "dry": plan.scale.dry}, 240.0)]
