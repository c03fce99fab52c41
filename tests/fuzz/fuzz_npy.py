"""Coverage-guided fuzzing of the ``.npy`` window reader: ``python -m tests.fuzz.fuzz_npy NEW CORPUS``.

What reaches new code is kept in the folder NEW, and what breaks the reader beside it. Flags are libFuzzer's;
atheris comes with requirements-fuzz.txt. ``make fuzz MINUTES=10`` runs this.
"""

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["pipelines.npy_header", "pipelines.volume_reader"]):
    from tests.fuzz.targets import npy

from tests.fuzz.mutate import npy_file

FLAGS = (
    f"-dict={Path(__file__).with_name('npy.dict')}",
    "-max_len=1024",
    "-timeout=20",
    "-print_final_stats=1",
)

if __name__ == "__main__":
    atheris.Setup(
        [sys.argv[0], *FLAGS, f"-artifact_prefix={sys.argv[1]}-", *sys.argv[1:]],
        npy,
        custom_mutator=lambda data, size, seed: npy_file(data, size, seed, atheris.Mutate),
    )
    atheris.Fuzz()
