"""The Quix Streams contender, run by an interpreter that has it: one process a core.

Prints every half second how many uploads it took and its processor seconds.
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

from quixstreams import Application
from quixstreams.models import Deserializer, Serializer

sys.path.insert(0, str(Path(__file__).parent))
from rows import Core, plan_from


class Decode(Deserializer):
    """Avro to a dict, counting."""

    def __init__(self, core: Core) -> None:
        super().__init__()
        self.core, self.taken = core, 0

    def __call__(self, value, ctx):
        self.taken += 1
        return self.core.decode(value)


class Encode(Serializer):
    """A vehicle message to Avro."""

    def __init__(self, core: Core) -> None:
        super().__init__()
        self.core = core

    def __call__(self, value, ctx):
        return self.core.encode(value)


def add(total, upload):
    """What an upload adds to the minute of its newest sample; `upload` is its partials."""
    for _, _, n, speed, low, high, least, greatest in upload:
        total[0] += n
        total[1] += speed
        total[2], total[3] = min(total[2], low), max(total[3], high)
        total[4], total[5] = min(total[4], least), max(total[5], greatest)
    return total


def begin(upload):
    """A minute's first upload."""
    inf = float("inf")
    return add([0, 0.0, inf, -inf, inf, -inf], upload)


def tell(decode: Decode) -> None:
    while True:
        print(time.monotonic(), decode.taken, time.process_time(), flush=True)
        time.sleep(0.5)


def main(path: str, state: str) -> None:
    plan = plan_from(path)
    core = Core(plan)
    decode = Decode(core)
    app = Application(
        broker_address=plan["brokers"],
        consumer_group=plan["group"],
        auto_offset_reset="earliest",
        processing_guarantee="exactly-once",
        commit_interval=10.0,
        state_dir=state,
        loglevel="WARNING",
        producer_extra_config={"compression.type": "lz4", "linger.ms": 20},
    )
    device = app.topic(
        plan["topic"],
        key_deserializer="bytes",
        value_deserializer=decode,
        timestamp_extractor=lambda value, headers, timestamp, kind: core.event_ms(value),
    )
    frame = app.dataframe(device)
    if plan["work"] == "convert":
        out = app.topic(plan["out"], key_serializer="bytes", value_serializer=Encode(core))
        frame.apply(core.enrich).to_topic(out)
    else:
        out = app.topic(plan["out"], key_serializer="bytes", value_serializer="json")
        frame = frame.apply(core.partials).filter(bool)
        frame = frame.tumbling_window(60_000, grace_ms=20_000).reduce(add, begin).final()
        frame.to_topic(out)
    threading.Thread(target=tell, args=(decode,), daemon=True).start()
    app.run()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
