"""Under libfaketime, which leaves the monotonic clock alone, Python's own sleep until a moment of
that clock is refused: sleep for a time instead."""

import select
import time


def sleep(seconds: float) -> None:
    select.select([], [], [], seconds)


time.sleep = sleep
