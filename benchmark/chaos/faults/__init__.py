"""The kinds of faults."""

import signal
from collections.abc import Callable
from functools import partial

from benchmark.chaos.faults.base import Fault
from benchmark.chaos.faults.data import NanCase, TruncatedCase
from benchmark.chaos.faults.kills import KillRank, KillTrainer, KillWorker, StopRank
from benchmark.chaos.faults.signals import Signal, TwoSignals
from benchmark.chaos.faults.storage import FullDisk, FullSharedMemory, TornCheckpoint

FAULTS: tuple[Callable[[], Fault], ...] = (
    KillTrainer,
    KillWorker,
    KillRank,
    TornCheckpoint,
    StopRank,
    partial(Signal, signal.SIGUSR1, "a preemption"),
    partial(Signal, signal.SIGTERM, "a scheduler"),
    FullDisk,
    TruncatedCase,
    TwoSignals,
    NanCase,
    FullSharedMemory,
    partial(Signal, signal.SIGINT, "Ctrl-C"),
)
"""Each makes a fault of one kind, for one cycle. Their order decides which loader they meet first."""
