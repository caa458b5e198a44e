"""Values of random types, through Go in both directions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import gob_json
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pygo_plugin import gob

pytestmark = pytest.mark.go


@pytest.fixture(scope="module", autouse=True)
def names() -> Iterator[None]:
    with gob_json.registered():
        yield


# The same examples each time, however long one takes on a busy machine.
SETTINGS = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

INTS = {
    f"{kind}{bits or ''}": (
        (0, 2 ** (bits or 64) - 1)
        if kind == "uint"
        else (-(2 ** ((bits or 64) - 1)), 2 ** ((bits or 64) - 1) - 1)
    )
    for kind in ("int", "uint")
    for bits in (None, 8, 16, 32, 64)
}
BASIC = [*INTS, "bool", "float32", "float64", "complex64", "complex128", "string", "bytes"]
KEYS = ["string", "int", "uint8", "bool", {"array": "int16", "len": 2}, "Point"]
HELD = [
    *BASIC,
    *({"slice": each} for each in BASIC if each not in ("uint8", "bytes")),
    *("Point", "Tree", "Celsius", {"slice": "any"}, {"map": "string", "value": "any"}),
]
NAMES = ["A", "Bb", "C3", "Delta", "E_e"]


def types() -> st.SearchStrategy[Any]:
    leaves = st.sampled_from([*BASIC, "any", "time", "Sealed", "Point", "Order"])
    return st.recursive(leaves, containers, max_leaves=8)


def containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    # Go can encode no big.Int that is in a map, but any *big.Int.
    pointer = (inner | st.just("bigint")).map(lambda of: {"pointer": of})
    field = st.one_of(inner, pointer)
    return st.one_of(
        inner.map(lambda of: {"slice": of} if of != "uint8" else "bytes"),
        st.tuples(inner, st.integers(0, 3)).map(lambda t: {"array": t[0], "len": t[1]}),
        st.tuples(st.sampled_from(KEYS), inner).map(lambda t: {"map": t[0], "value": t[1]}),
        st.lists(field, min_size=1, max_size=5).map(
            lambda fields: {"struct": [list(pair) for pair in zip(NAMES, fields)]}
        ),
    )


def floats(width: int) -> st.SearchStrategy[str]:
    return st.floats(width=width).map(float.hex)


def times() -> st.SearchStrategy[str]:
    return st.builds(
        lambda when, digits, zone: (
            f"{when:%m-%dT%H:%M:%S}".join((f"{when.year:04}-", digits)) + zone
        ),
        st.datetimes(),
        st.sampled_from(["", ".5", ".000000001", ".123456789"]),
        st.sampled_from(["Z", "+01:00", "-05:30", "+00:00:30"]),
    )


def values(of: Any) -> st.SearchStrategy[Any]:
    fields = gob_json.fields_of(of)
    if fields is not None:
        if of == "Tree":
            return st.just({"Name": "root", "Children": [{"Name": "leaf"}]})
        return st.fixed_dictionaries({}, optional={name: values(t) for name, t in fields})
    if isinstance(of, str):
        return plain(of)
    if "slice" in of:
        return st.lists(values(of["slice"]), max_size=3)
    if "array" in of:
        return st.lists(values(of["array"]), min_size=of["len"], max_size=of["len"])
    if "map" in of:
        entries = st.tuples(values(of["map"]), values(of["value"])).map(list)
        return st.none() | st.lists(entries, max_size=3, unique_by=lambda e: json.dumps(e[0]))
    return st.none() | values(of["pointer"])


def plain(of: str) -> st.SearchStrategy[Any]:
    if of in INTS:
        return st.integers(*INTS[of]) | st.integers(0, 3)
    if of.startswith("float") or of == "Celsius":
        return floats(32 if of == "float32" else 64)
    if of.startswith("complex"):
        part = floats(32 if of == "complex64" else 64)
        return st.lists(part, min_size=2, max_size=2)
    if of == "any":
        held = st.sampled_from(HELD).flatmap(
            lambda t: st.fixed_dictionaries({"type": st.just(t), "value": values(t)})
        )
        return st.none() | held
    return {
        "bool": st.booleans(),
        "string": st.text() | st.just({"hex": "ff80"}),
        "bytes": st.binary().map(bytes.hex),
        "Sealed": st.binary().map(bytes.hex),
        "time": times(),
        "bigint": st.integers().map(str),
    }[of]


def normal(of: Any, value: Any) -> Any:
    """The value with its maps sorted, and without the difference between nil and empty ones."""
    fields = gob_json.fields_of(of)
    if fields is not None:
        return {name: normal(t, value[name]) for name, t in fields}
    if isinstance(of, str):
        if of == "any" and value is not None:
            return {"type": value["type"], "value": normal(value["type"], value["value"])}
        return value
    if "map" in of:
        entries = [[normal(of["map"], k), normal(of["value"], v)] for k, v in value or ()]
        return sorted(entries, key=json.dumps)
    if "pointer" in of:
        return None if value is None else normal(of["pointer"], value)
    return [normal(of.get("slice", of.get("array")), each) for each in value]


@SETTINGS
@given(st.data())
def test_values_of_random_types(go_gob: Any, data: st.DataObject) -> None:
    of = data.draw(types().filter(lambda t: t != "any"), "type")
    value = data.draw(values(of), "value")
    (encoded,) = go_gob.encode(of, value)
    (expected,) = go_gob.decode(of, encoded)
    annotation = gob_json.annotation(of)

    decoded = gob.loads(encoded, annotation)
    gob_json.check(of, expected, decoded)
    ours = gob.dumps(gob_json.build(of, expected), annotation)
    (returned,) = go_gob.decode(of, ours)
    assert normal(of, returned) == normal(of, expected)
    # What Go makes of the untyped objects is not known, but there are some.
    assert repr(gob.loads(encoded)) == repr(gob.loads(encoded))


@SETTINGS
@given(st.data())
def test_streams_in_pieces(go_gob: Any, data: st.DataObject) -> None:
    of = data.draw(types().filter(lambda t: t != "any"), "type")
    drawn = data.draw(st.lists(values(of), min_size=1, max_size=3), "values")
    stream = b"".join(go_gob.encode(of, *drawn))
    expected = go_gob.decode(of, stream)
    decoder = gob.Decoder(type=gob_json.annotation(of))
    found = []
    while stream:
        size = data.draw(st.integers(1, 40), "size")
        decoder.feed(stream[:size])
        stream = stream[size:]
        found += decoder
    assert len(found) == len(expected)
    for value, one in zip(expected, found):
        gob_json.check(of, value, one)
