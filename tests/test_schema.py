"""Schemas: one canonical form, one fingerprint, and nothing else is read."""

from __future__ import annotations

import pytest
from blake3 import blake3
from cbor2 import dumps

from edgecore.errors import Corrupt, Invalid
from edgecore.schema import DTYPES, TIERS, Field, Schema


def pump() -> Schema:
    return Schema(
        "telemetry",
        tier="bulk",
        fields=[
            Field("pump", "category", required=True),
            Field("temp", "decimal(3)", unit="degC", range=(-40, 150)),
            Field("rpm", "i32", unit="1/min"),
            Field("vibration", "f64", resolution=0.001),
        ],
    )


def test_schema_round_trip_keeps_every_field() -> None:
    again = Schema.from_bytes(pump().canonical_bytes)
    assert again == pump()
    assert again.fingerprint == pump().fingerprint
    assert [field.dtype_text for field in again.fields] == ["category", "decimal(3)", "i32", "f64"]
    assert again.fields[0].required
    assert again.fields[1].range == (-40.0, 150.0)
    assert again.fields[3].resolution == 0.001


def test_schema_fingerprint_is_blake3_of_the_canonical_bytes() -> None:
    assert pump().fingerprint == blake3(pump().canonical_bytes).digest()


def test_schema_core_carries_the_same_identity() -> None:
    core = pump().core
    assert (core.stream, TIERS[core.tier], core.version) == ("telemetry", "bulk", 1)


@pytest.mark.parametrize("dtype", [*(d for d in DTYPES if d != "decimal"), "decimal(18)"])
def test_schema_of_every_dtype_round_trips(dtype: str) -> None:
    schema = Schema("s", tier="critical", fields=[Field("x", dtype)])
    assert Schema.from_bytes(schema.canonical_bytes) == schema


def test_schema_encoding_with_a_spelled_out_default_is_corrupt() -> None:
    body = {
        "stream": "s",
        "tier": "bulk",
        "version": 1,
        "fields": [{"name": "x", "dtype": "f64", "required": False}],
    }
    with pytest.raises(Corrupt, match="canonical"):
        Schema.from_bytes(dumps(body, canonical=True))


@pytest.mark.parametrize("cut", [0, 1, 10, -1])
def test_schema_truncated_is_corrupt(cut: int) -> None:
    with pytest.raises(Corrupt):
        Schema.from_bytes(pump().canonical_bytes[:cut])


@pytest.mark.parametrize("data", [b"\x00", b"\xf6", b"\x80", b"\xa0", b"\xff" * 8, bytes(70_000)])
def test_schema_of_hostile_bytes_is_corrupt(data: bytes) -> None:
    with pytest.raises(Corrupt):
        Schema.from_bytes(data)


def test_schema_range_bound_off_the_grid_is_invalid() -> None:
    with pytest.raises(Invalid, match=r"'temp'.*off the field's grid"):
        Schema("s", tier="bulk", fields=[Field("temp", "decimal(1)", range=(-0.25, 10))])


def test_schema_range_the_dtype_cannot_hold_is_invalid() -> None:
    with pytest.raises(Invalid, match="no value of the dtype"):
        Schema("s", tier="bulk", fields=[Field("n", "u8", range=(-5, -1))])
