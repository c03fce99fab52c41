"""What ends a run before its end."""


class RunError(RuntimeError):
    """Something the user gave cannot work; the message is one sentence that says what and what to do."""


class Stopped(Exception):  # noqa: N818 - it was asked for
    """All ranks have ended training after the same step, because a signal asked one of them to.

    Args:
        signal: Its number.
    """

    def __init__(self, signal: int) -> None:
        super().__init__(signal)
        self.signal = signal
