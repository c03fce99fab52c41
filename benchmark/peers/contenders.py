"""Who takes part, by name and in the order of the table: ours first, then the reference, then the others."""

from benchmark.peers.contender import Contender
from benchmark.peers.dali_classic import DaliClassic
from benchmark.peers.mlperf_reference import Reference
from benchmark.peers.monai_loader import Monai
from benchmark.peers.nnunet_loader import NnUnet
from benchmark.peers.voxelrate import Voxelrate

REFERENCE = "reference"

CONTENDERS: dict[str, Contender] = {
    "pytorch": Voxelrate("pytorch"),
    "pytorch-host": Voxelrate("pytorch", data_cache="host"),
    "dali": Voxelrate("dali", data_cache="none"),
    "dali-host": Voxelrate("dali", data_cache="host"),
    "dali-device": Voxelrate("dali", data_cache="device"),
    REFERENCE: Reference(),
    "monai": Monai(cached=False),
    "monai-cached": Monai(cached=True),
    "monai-tuned": Monai(cached=True, tuned=True),
    "nnunet": NnUnet(),
    "dali-classic": DaliClassic(),
}
