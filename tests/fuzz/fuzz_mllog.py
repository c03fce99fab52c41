"""Coverage-guided fuzzing of the MLPerf log reader: ``python -m tests.fuzz.fuzz_mllog NEW CORPUS``.

What reaches new code is kept in the folder NEW, and what breaks the reader beside it. Flags are libFuzzer's;
atheris comes with requirements-fuzz.txt. ``make fuzz MINUTES=10`` runs this. Logs
are written into a folder beside NEW, too.
"""

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["benchmark.mllog", "preprocess.untrusted", "json.decoder"]):
    from tests.fuzz.targets import mllog

from tests.fuzz.mutate import log_lines

FLAGS = (
    f"-dict={Path(__file__).with_name('mllog.dict')}",
    "-max_len=8192",
    "-timeout=20",
    "-print_final_stats=1",
)

if __name__ == "__main__":
    files = Path(f"{sys.argv[1]}-files")
    atheris.Setup(
        [sys.argv[0], *FLAGS, f"-artifact_prefix={sys.argv[1]}-", *sys.argv[1:]],
        lambda data: mllog(data, files),
        custom_mutator=lambda data, size, seed: log_lines(data, size, seed, atheris.Mutate),
    )
    atheris.Fuzz()
