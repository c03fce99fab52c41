"""The shapes, flags and items of a GPU check are the network's and main.py's."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmark.gpu_check import feedings, items
from benchmark.gpu_check.journal import OK, Outcome
from benchmark.gpu_check.ladder import BESIDE, RUNGS, points
from benchmark.gpu_check.layers import distinct, distinct_norms, flops_per_image, layers, norms
from benchmark.gpu_check.plan import Plan
from benchmark.gpu_check.scale import REAL
from benchmark.gpu_check.steps import config_of
from model.unet3d import MLPERF_FILTERS, Unet3D
from runtime.errors import RunError
from tests.unit.benchmark.gpu_checks import journal, step


class TestLayers:
    def test_their_work_is_that_of_the_published_count(self) -> None:
        forward, both = flops_per_image(MLPERF_FILTERS, 128)
        assert round(forward / 1e9, 2) == 954.60
        assert round(both / 1e9, 2) == 2860.17
        table = {layer.name: layer for layer in layers(MLPERF_FILTERS, 128)}
        for name, gigaflops in (
            ("in.c1", 3.62),
            ("d3.c1", 2.26),
            ("u0.T", 0.10),
            ("u4.c1", 231.93),
            ("out", 0.40),
        ):
            assert round(table[name].flops / 1e9, 2) == gigaflops

    def test_they_are_the_network(self) -> None:
        with torch.device("meta"):
            model, image = Unet3D(1, 3), torch.empty(1, 1, 128, 128, 128)
        seen: list[tuple[Any, ...]] = []
        for module in model.modules():
            if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):

                def note(module: Any, inputs: Any, output: Tensor) -> None:
                    size = module.in_channels, module.out_channels, module.kernel_size[0], module.stride[0]
                    seen.append((*size, inputs[0].shape[-1], output.shape[-1]))

                module.register_forward_hook(note)
        model(image)
        ours = layers(MLPERF_FILTERS, 128)
        assert [(x.inputs, x.outputs, x.kernel, x.stride, x.edge_in, x.edge) for x in ours] == seen
        assert sum(layer.weights for layer in ours) == sum(
            p.numel() for p in model.parameters() if p.dim() == 5
        )

    def test_the_norms_are_twenty_two_of_which_five_begin_a_skip_connection(self) -> None:
        every = norms(MLPERF_FILTERS, 128)
        assert len(every) == 22
        assert [norm.name for norm in every if norm.joins] == ["in.c2", "d0.c2", "d1.c2", "d2.c2", "d3.c2"]
        assert sum(len(names) for names in distinct_norms(every).values()) == 22
        assert {(n.channels, n.edge) for n in distinct_norms(every)} == {
            (32, 128), (64, 64), (128, 32), (256, 16), (320, 8), (320, 4),
        }  # fmt: skip

    def test_equal_shapes_are_measured_once(self) -> None:
        groups = distinct(layers(MLPERF_FILTERS, 128))
        assert sum(len(names) for names in groups.values()) == 28
        assert ["in.c2", "u4.c2"] in groups.values()


class TestFlags:
    def test_the_ladder_has_eight_rungs_and_every_point_is_one_of_them(self) -> None:
        assert len(RUNGS) == 8
        found = points(slow=False) + points(slow=True)
        assert len(found) == len({(rung.name, batch) for rung, batch in found})
        assert {rung.name for rung, batch in found if batch == "large"} == {r.name for r in (*RUNGS, *BESIDE)}
        assert sum(batch == "small" for _, batch in found) == 4
        assert found[0] == (RUNGS[-1], "large")
        assert [rung.name for rung, _ in found].count("compile") == 1

    @pytest.mark.parametrize("rung", [*RUNGS, *BESIDE], ids=lambda rung: rung.name)
    def test_main_takes_those_of_every_rung(self, rung: Any) -> None:
        config = config_of(["--data_dir", "none", *REAL.flags(), *rung.flags])
        assert config.filters == MLPERF_FILTERS
        assert config.amp
        assert config.loader.layout == ("NCDHW" if rung.name == "reference" else "NDHWC")

    def test_main_takes_those_of_curves_and_of_runs_with_every_loader(self, tmp_path: Path) -> None:
        plan, found = Plan(REAL, tmp_path), journal(tmp_path)
        for item in items.curves(plan, found):
            config_of(["--data_dir", "none", *item.arguments["flags"], "--layout", item.arguments["layout"]])
        runs = feedings.end_to_end(plan, found)
        configs = [config_of(item.arguments["flags"]) for item in runs]
        assert {(c.loader.loader, c.loader.data_cache, c.loader.batch_size) for c in configs} == {
            (loader, cache, batch)
            for batch in (2, 7)
            for loader, cache in (
                ("pytorch", "none"), ("dali", "none"), ("dali", "device"), ("dali", "host"),
                ("synthetic", "none"),
            )
        }  # fmt: skip
        assert all(config.speed.cuda_graph for config in configs)

    def test_end_to_end_takes_the_fastest_rung(self, tmp_path: Path) -> None:
        found = journal(tmp_path)
        found.begin("ladder", "")
        for name, rate in (
            ("everything batch 7", 50.0),
            ("graph batch 7", 70.0),
            ("everything batch 2", 90.0),
        ):
            found.note("ladder", Outcome(name, OK, values=step(rate, int(name[-1]))), "")
        assert "--cuda_graph" in feedings.end_to_end(Plan(REAL, None), found)[0].arguments["flags"]
        names = {item.name.split(", ")[1] for item in feedings.end_to_end(Plan(REAL, None), found)}
        assert names == {"graph"}

    def test_what_cannot_be_read_or_is_missing_is_said(self, tmp_path: Path) -> None:
        runs = feedings.end_to_end(Plan(REAL, None), journal(tmp_path))
        assert {item.not_here for item in runs if "synthetic" not in item.name} == {"not run: no --data_dir"}

    def test_a_wrong_flag_is_said_in_mains_words(self) -> None:
        with pytest.raises(RunError, match="--shadow_weights needs --amp"):
            config_of(["--data_dir", "none", "--shadow_weights"])

    def test_offsets_beyond_32_bits_are_tried(self, tmp_path: Path) -> None:
        huge = [item for item in items.exactness(Plan(REAL, None), journal(tmp_path)) if item.alone]
        assert len(huge) == 5
        for item in huge:
            shape = item.arguments["shape"]
            channels = 2 * 32 if item.arguments["op"] == "transposed" or shape.get("joined") else 32
            assert shape["batch"] * channels * shape["edge"] ** 3 > 2**31
