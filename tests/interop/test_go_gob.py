"""Go's encoder and decoder agree with each other on what the tests ask them for."""

from __future__ import annotations

from typing import Any

import pytest
from go_gob import GoGobError

pytestmark = pytest.mark.go

RANDOM = {"struct": [["A", {"map": "string", "value": "any"}], ["B", {"pointer": "complex64"}]]}


def test_samples(go_gob: Any) -> None:
    samples = go_gob.samples()
    assert len(samples) > 40
    for sample in samples:
        assert go_gob.decode(sample.type, sample.data) == sample.values, sample.kind


def test_types_made_on_demand(go_gob: Any) -> None:
    item = {"struct": [["Z", "uint8"]]}
    value = {"A": [["k", {"type": item, "value": {"Z": 7}}]], "B": ["0x1p+00", "NaN"]}
    (data,) = go_gob.encode(RANDOM, value, register=[("example.com/p.Item", item)])
    assert b"example.com/p.Item" in data
    assert go_gob.decode(RANDOM, data) == [value]


def test_errors(go_gob: Any) -> None:
    one, two = go_gob.encode("int", 1, 2)
    with pytest.raises(GoGobError, match="unexpected EOF") as caught:
        go_gob.decode("int", one + two[:-1])
    assert caught.value.values == [1]
    with pytest.raises(GoGobError, match="decoding into local type"):
        go_gob.decode("string", one)
