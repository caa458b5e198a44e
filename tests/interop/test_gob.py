"""Our gob and Go's: each encodes what the other decodes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gob_json
import pytest

from pygo_plugin import gob

pytestmark = pytest.mark.go


@pytest.fixture(scope="module", autouse=True)
def names() -> Iterator[None]:
    with gob_json.registered():
        yield


@pytest.fixture(scope="module")
def samples(go_gob: Any) -> Any:
    return go_gob.samples()


def test_what_go_encodes_is_decoded_into_classes(samples: Any) -> None:
    for sample in samples:
        decoder = gob.Decoder(type=gob_json.annotation(sample.type))
        for i in range(len(sample.data)):  # byte by byte
            decoder.feed(sample.data[i : i + 1])
        values = list(decoder)
        if sample.type == "any":  # at the top Go sends what the interface holds
            continue
        assert len(values) == len(sample.values), sample.kind
        for value, found in zip(sample.values, values):
            gob_json.check(sample.type, value, found, sample.kind)


def test_what_we_encode_is_decoded_by_go(samples: Any, go_gob: Any) -> None:
    for sample in samples:
        if sample.type == "any":
            continue
        of = gob_json.annotation(sample.type)
        encoder = gob.Encoder()
        data = b"".join(
            encoder.encode(gob_json.build(sample.type, value), of) for value in sample.values
        )
        assert go_gob.decode(sample.type, data) == sample.values, sample.kind
