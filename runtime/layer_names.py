"""What MLPerf calls the layers of U-Net3D, which its logs name as initialised."""

import re

from torch import nn

_BLOCK = re.compile(r"conv([12])\.([01])\.")
_LAYERS = ("conv", "instancenorm")


def initialized_layers(model: nn.Module) -> list[str]:
    """Each layer with parameters of a `model.unet3d.Unet3D`, once, in the order of its parameters.

    The names are those that rulesets 1.1.0 to 2.1.0 list (mlperf_logging, closed_unet3d.yaml), where the
    bottleneck is the lowest of the levels down. A norm of another kind goes by the same name.
    """
    names = [name for name, _ in model.named_parameters()]
    levels = len({name.split(".")[1] for name in names if name.startswith("downsample.")})
    return list(dict.fromkeys(_layer(name, levels) for name in names))


def _layer(parameter: str, levels: int) -> str:
    part, _, rest = parameter.partition(".")
    if part == "output":
        return "output_conv"
    if part in ("downsample", "upsample"):
        level, _, rest = rest.partition(".")
        place = f"{part.removesuffix('sample')}{level}"
    else:
        place = "input" if part == "input_block" else f"down{levels}"
    if rest.startswith("upsample_conv."):
        return f"{place}_deconv"
    found = _BLOCK.match(rest)
    if found is None:
        raise ValueError(f"{parameter} is no parameter of U-Net3D")
    return f"{place}_block_{int(found[1]) - 1}_{_LAYERS[int(found[2])]}"
