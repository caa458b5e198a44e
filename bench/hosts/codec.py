"""Measures gob by itself: one struct with 100 others, encoded and decoded again and again.

    codec.py --seconds S [--pure]

It prints one JSON object with `encode_us` and `decode_us`, the medians; with `--pure` the latter
alone, of the decoder in pure Python. Each value is the one after the type definitions of a stream.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import time
from typing import TYPE_CHECKING, Any

import orders

from pygo_plugin import gob

if TYPE_CHECKING:
    from collections.abc import Callable

BATCH = 20  # values between two looks at the clock


def median_us(run: Callable[[int], object], seconds: float) -> float:
    """The median time of one value; `run` takes how many."""
    run(BATCH)
    times = []
    end = time.perf_counter() + seconds
    while (begin := time.perf_counter()) < end:
        run(BATCH)
        times.append((time.perf_counter() - begin) / BATCH * 1e6)
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=0.3)
    parser.add_argument("--pure", action="store_true")
    arguments = parser.parse_args()
    order = orders.sample()

    def encode(count: int) -> bytes:
        file = io.BytesIO()
        encoder = gob.Encoder(file)
        for _ in range(count):
            encoder.encode(order)
        return file.getvalue()

    stream = encode(BATCH)

    def decode(count: int) -> None:
        decoder: Any = gob.Decoder(io.BytesIO(stream), orders.Order)
        for found in decoder:
            count -= len(found.items) == 100
        assert count == 0

    def decode_pure(count: int) -> None:
        from pure_gob import Decoder

        assert len(Decoder().decode_all(stream)) == count

    results = {}
    if arguments.pure:
        results["decode_us"] = median_us(decode_pure, arguments.seconds)
    else:
        results["encode_us"] = median_us(encode, arguments.seconds / 2)
        results["decode_us"] = median_us(decode, arguments.seconds / 2)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
