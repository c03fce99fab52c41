"""Images per second of training, as a log tells them or as its blocks' times give them."""

import statistics

from benchmark.mllog.log import Interval, Log, as_number, epoch_count

LOGGED = "logged throughput, median over cycles"
BLOCKS = "samples / time of training blocks, median over them"
LONGEST_BLOCK = (
    "samples / time of the longest training block, a lower bound: evaluations are not logged as intervals, "
    "and one is in it"
)


def training_rate(
    log: Log,
    blocks: list[Interval],
    evaluations: list[Interval],
    samples_per_epoch: float,
    in_samples: bool | None,
) -> tuple[float | None, str | None]:
    """(images/s, how they were found); None where the log tells neither rates nor blocks.

    Args:
        log: Of a run.
        blocks: Its training blocks.
        evaluations: Their time does not count where they are in a block.
        samples_per_epoch: Of an epoch, where blocks or epochs do not tell samples themselves.
        in_samples: Whether the epochs of ``blocks`` are really samples.
    """
    if rates := [rate for _, rate in _logged_rates(log)]:
        return statistics.median(rates), LOGGED
    # The reference's blocks hold an epoch and an evaluation, and its epochs are logged as well.
    epochs = log.intervals("epoch")
    cycles = []
    for cycle in epochs or blocks:
        samples = as_number(cycle.metadata.get("samples_count"))
        if samples is None:
            count = 1 if epochs else epoch_count(cycle)
            samples = count * (1 if in_samples and not epochs else samples_per_epoch)
        inside = sum(found.seconds for found in evaluations if found.within(cycle))
        if samples > 0 and cycle.seconds > inside:
            cycles.append((samples, cycle.seconds - inside))
    if not cycles:
        return None, None
    if log.during("eval_accuracy") and not evaluations:
        samples, seconds = max(cycles)
        return samples / seconds, LONGEST_BLOCK
    return statistics.median(samples / seconds for samples, seconds in cycles), BLOCKS


def _logged_rates(log: Log) -> list[tuple[float, float]]:
    """(time in ms, images/s) of each cycle: NVIDIA's code logs them so, and Habana's by the second key."""
    stats = [
        (event.time_ms, as_number(event.value.get("throughput")))
        for event in log.during("tracked_stats")
        if isinstance(event.value, dict)
    ]
    stats = stats or [(event.time_ms, as_number(event.value)) for event in log.during("throughput")]
    return [(time_ms, rate) for time_ms, rate in stats if rate]


def evaluates_beside_training(log: Log, blocks: list[Interval], evaluations: list[Interval]) -> bool:
    """Whether an evaluation began in a block before the end of its training, or outlasted the block; or a
    block began in an evaluation, as ours do.

    A block's training ends with its throughput; that of the reference and of Habana has the evaluation after
    its training.
    """
    ends = [time_ms for time_ms, _ in _logged_rates(log)]
    return any(
        evaluation.stop_ms > block.stop_ms or any(evaluation.start_ms < end <= block.stop_ms for end in ends)
        if block.start_ms <= evaluation.start_ms < block.stop_ms
        else evaluation.start_ms < block.start_ms < evaluation.stop_ms
        for block in blocks
        for evaluation in evaluations
    )
