"""Golden vectors and golden streams: made when a release is, replayed before it serves."""

from __future__ import annotations

import random
from array import array
from typing import Any

import cbor2
import pytest
from fitting import SECOND, START, TEMP, fitted, readings

from edgecore import golden_making, golden_streams
from edgecore._core.rows import Batch
from edgecore._core.verdict import VerdictSpec
from edgecore.digest import blake3
from edgecore.errors import Corrupt, Incompatible, Invalid
from edgecore.features import Agg, AsOf, FeatureStore, FeatureView, Last, Recency
from edgecore.fs import MemoryFs
from edgecore.golden_streams import STAGE_BYTES, STAGES, Stream
from edgecore.inference import Binding, Model, Slot
from edgecore.pipeline import LocalModel
from edgecore.release import ANSWER_BYTES, STREAMS, Bundle, Manifest, joined_bytes
from edgecore.schema import Field, Schema

pytest.importorskip("flatbuffers")

Released = tuple[Bundle, tuple[bytes, ...]]


@pytest.fixture(scope="module")
def released() -> Released:
    return golden_making.complete(fitted(readings(400, seed=3), steps=60))


def local(objects: dict[str, bytes], **model: Any) -> LocalModel:
    return LocalModel(
        Model.load(objects["model"], **{"backend": "native", **model}),
        Binding.from_bytes(objects["binding"]),
        objects["verdict"],
    )  # fmt: skip


def check(released: Released, **changed: bytes) -> None:
    bundle, answers = released
    objects = {**bundle.objects, **changed}
    view = FeatureView.from_bytes(objects["view"])
    golden_streams.check(local(objects), view, [TEMP], objects[STREAMS], answers)


def codes(objects: dict[str, bytes]) -> list[bytes]:
    size = Model.load(objects["model"]).input_size
    golden = objects["golden"]
    return [golden[at : at + size] for at in range(0, len(golden), size)]


# ------------------------------------------------------------------ vectors


def test_golden_vectors_reach_the_extremes_beside_rows_that_were_learned_from(
    released: Released,
) -> None:
    bundle, _ = released
    rows, model = codes(bundle.objects), Model.load(bundle.objects["model"])
    assert len(rows) >= golden_making.VECTORS_MIN
    zero = model.input_quantisation[1] & 0xFF
    for code in (0x80, 0x7F, zero):
        assert bytes([code]) * model.input_size in rows
    expected = bytes.fromhex(bundle.facts["golden_output"])
    for isa in ("portable", "best"):
        Model.load(bundle.objects["model"], isa=isa).check_golden(
            bundle.objects["golden"], expected
        )


def with_vectors(bundle: Bundle, golden: bytes) -> Bundle:
    model = Model.load(bundle.objects["model"])
    facts = {name: value for name, value in bundle.facts.items() if name != "version"}
    facts["features"] = [bytes.fromhex(one) for one in facts["features"]]
    facts["golden_output"] = blake3(model.run_batch(golden, len(golden) // model.input_size))
    return Bundle({**bundle.objects, "golden": golden}, **facts)


def test_golden_vectors_that_lack_the_extremes_get_them_and_fewer_than_16_are_refused(
    released: Released,
) -> None:
    bundle, answers = released
    size = Model.load(bundle.objects["model"]).input_size
    chance = random.Random(4)
    sixteen = chance.randbytes(16 * size)
    made, again = golden_making.complete(with_vectors(bundle, sixteen))
    assert codes(made.objects)[:16] == codes({**bundle.objects, "golden": sixteen})
    assert len(codes(made.objects)) == 16 + 4
    assert again == answers
    with pytest.raises(Invalid, match="15 golden vectors: at least 16"):
        golden_making.complete(with_vectors(bundle, sixteen[size:]))


def test_golden_vectors_of_another_model_are_refused_when_released(released: Released) -> None:
    bundle, _ = released
    other = fitted(readings(400, seed=3), steps=60, seed=2)
    objects = {**bundle.objects, "model": other.objects["model"]}
    facts = {name: value for name, value in bundle.facts.items() if name != "version"}
    facts["features"] = [bytes.fromhex(one) for one in facts["features"]]
    facts["golden_output"] = bytes.fromhex(facts["golden_output"])
    with pytest.raises(Incompatible, match="golden vectors: native"):
        golden_making.complete(Bundle(objects, **facts))


# ------------------------------------------------------------------ streams


def test_golden_streams_pass_on_every_kernel_and_are_the_same_bytes_again(
    released: Released,
) -> None:
    bundle, answers = released
    view = FeatureView.from_bytes(bundle.objects["view"])
    for isa in ("portable", "best"):
        model = local(bundle.objects, isa=isa)
        golden_streams.check(model, view, [TEMP], bundle.objects[STREAMS], answers)
    again = golden_making.complete(fitted(readings(400, seed=3), steps=60))
    assert (again[0].files(), again[1]) == (bundle.files(), answers)
    manifest = bundle.manifest("anomaly", 1, streams_output=answers)
    assert Manifest.decode(manifest.encode()).streams_output == answers
    assert len(manifest.encode()) - len(bundle.manifest("anomaly", 1).encode()) < 512
    assert STREAMS not in bundle.manifest("anomaly", 1).objects


def test_golden_streams_hold_a_foreign_runtime_to_the_same_bits(released: Released) -> None:
    pytest.importorskip("ai_edge_litert")
    bundle, answers = released
    view = FeatureView.from_bytes(bundle.objects["view"])
    model = local(bundle.objects, backend="litert")
    golden_streams.check(model, view, [TEMP], bundle.objects[STREAMS], answers)


def test_golden_streams_find_a_runtime_that_rounds_otherwise(released: Released) -> None:
    bundle, answers = released
    view = FeatureView.from_bytes(bundle.objects["view"])
    model = local(bundle.objects, profile="tflite-double")
    with pytest.raises(Incompatible, match="stage 'output' is not what it was"):
        golden_streams.check(model, view, [TEMP], bundle.objects[STREAMS], answers)


def test_golden_streams_hold_late_rows_gaps_jumps_and_every_verdict(released: Released) -> None:
    bundle, _ = released
    streams = golden_streams.decode(bundle.objects[STREAMS], [TEMP])
    found = {}
    for stream in streams:
        found[stream.name] = predictions(bundle.objects, stream)
        assert len(found[stream.name]) == len(stream.events) >= 32
    assert list(found) == ["plain", "late", "missing", "jump", "anomalous"]
    assert {one.reason for one in found["late"]} == {None, "uncounted"}
    assert {one.verdict for one in found["anomalous"]} == {0, 1, 2}
    assert len({one.threshold for one in found["anomalous"]}) > 3  # not the floor alone
    times = [time for _, time, _ in streams[1].events]
    assert times != sorted(times)
    assert sum(None in cells for _, _, cells in streams[2].events) >= 10
    steps = [b[1] - a[1] for a, b in zip(streams[3].events, streams[3].events[1:], strict=False)]
    assert max(steps) >= 500 * SECOND
    assert min(steps) <= -500 * SECOND


def predictions(objects: dict[str, bytes], stream: Stream) -> list[Any]:
    from edgecore.log import Log
    from edgecore.pipeline import Pipeline

    with Log.open("log", fs=MemoryFs(), flusher="manual") as log:
        pipeline = Pipeline(log, FeatureView.from_bytes(objects["view"]), schema=TEMP)
        pipeline.set_role("active", local(objects))
        made = pipeline.process(stream.whole(0, TEMP))
        return [made[at] for at in range(len(made))]


def planted(objects: dict[str, bytes], stage: str) -> dict[str, bytes]:
    """A release that differs from there on: an event, a number of the binding, another step of
    training, a factor of the verdict."""
    if stage == "features":
        streams = golden_streams.decode(objects[STREAMS], [TEMP])
        number, time, cells = streams[2].events[50]
        streams[2].events[50] = (number, time, [(cells[0] or 0) + 1])
        return {STREAMS: golden_streams.encode([TEMP], streams)}
    if stage == "input":
        body = cbor2.loads(objects["binding"])
        body["slots"][-1]["centre"] += 0.25
        return {"binding": cbor2.dumps(body, canonical=True)}
    if stage == "output":
        return {"model": fitted(readings(400, seed=3), steps=61).objects["model"]}
    spec = VerdictSpec.from_bytes(objects["verdict"])
    factor = spec.factor_permille + 1
    changed = VerdictSpec(floor=spec.floor, gap_ns=spec.gap_ns, factor_permille=factor)
    return {"verdict": changed.to_bytes()}


@pytest.mark.parametrize("stage", ["features", "input", "output", "verdict"])
def test_golden_streams_name_the_stage_that_a_change_begins_in(
    released: Released, stage: str
) -> None:
    with pytest.raises(Incompatible, match=f"golden stream '[a-z]+': stage '{stage}' is not"):
        check(released, **planted(released[0].objects, stage))


def test_golden_streams_find_a_model_whose_bytes_differ_in_one_weight(released: Released) -> None:
    """Most; a weight that no event reaches is left to the golden vectors' extremes."""
    objects, found = released[0].objects, 0
    chance = random.Random(5)
    for _ in range(40):
        model = bytearray(objects["model"])
        model[chance.randrange(200, 1000)] ^= 0x40  # where this file has its weights
        try:
            Model.load(bytes(model), backend="native")
        except (Corrupt, Incompatible):
            continue
        try:
            check(released, model=bytes(model))
        except Incompatible as error:
            found += "stage" in str(error)
    assert found >= 10


def test_golden_streams_score_of_another_kind_is_found(released: Released) -> None:
    bundle, answers = released
    objects = bundle.objects
    binding = Binding.from_bytes(objects["binding"])
    other = LocalModel(Model.load(objects["model"]), binding, objects["verdict"], "identity")
    view = FeatureView.from_bytes(objects["view"])
    with pytest.raises(Incompatible, match="stage 'score' is not"):
        golden_streams.check(other, view, [TEMP], objects[STREAMS], answers)


def test_golden_streams_features_are_those_that_the_engine_reads_live(released: Released) -> None:
    """What a device digests as features is what a store answers that is fed row by row."""
    bundle, answers = released
    view = FeatureView.from_bytes(bundle.objects["view"])
    for stream, expected in zip(
        golden_streams.decode(bundle.objects[STREAMS], [TEMP]), answers, strict=True
    ):
        store = FeatureStore.open("store", views=[view], schemas=[TEMP], fs=MemoryFs())
        values, states = array("d"), bytearray()
        for order, (_, time, cells) in enumerate(stream.events, 1):
            late = store.late_rows
            store.update("pump", golden_streams.row_of(TEMP, order, time, cells))
            if store.late_rows > late:
                values.extend([0.0] * len(view.names))
                states += bytes([2]) * len(view.names)
                continue
            read = store.read(view, "", time)
            pairs = zip(read.values, read.states, strict=True)
            values.extend([0.0 if state == 2 else value for value, state in pairs])
            states += bytes(read.states)
        made = blake3(values.tobytes() + bytes(states))[:STAGE_BYTES]
        assert made == expected[: len(made)], stream.name


def test_golden_streams_are_made_from_the_schema_where_there_are_no_rows() -> None:
    """Of a view that reads another stream, with fields of every type; published by itself."""
    fields = [Field("site", "category"), Field("temp", "decimal(2)", range=(-40, 150)),
              Field("on", "bool"), Field("raw", "i16"), Field("note", "utf8"),
              Field("blob", "bytes"), Field("load", "f32"),
              Field("must", "u8", required=True)]  # fmt: skip
    main = Schema("plant", tier="bulk", fields=fields)
    weather = Schema("weather", tier="bulk", fields=[Field("outside", "f64", resolution=0.1,
                                                           range=(-50, 60))])  # fmt: skip
    view = FeatureView("p", entity="site", source="plant", lateness="5s", features=[
        Agg("temp", ["mean", "max"], window="1m"), Last("raw"), Recency(),
        AsOf("weather", Last("outside", within="10m"), lateness="20s"),
    ])  # fmt: skip
    prints = view.fingerprints_for(main, [weather])
    objects = {
        **fitted(readings(400, seed=3), steps=5).objects,
        "view": view.to_bytes(), "schema": main.canonical_bytes,
        "binding": Binding([Slot(one, centre=10, scale=9) for one in prints]).to_bytes(),
        "joined": joined_bytes([weather]), "model": network(len(prints)),
        "golden": bytes(range(16 * len(prints))),
    }  # fmt: skip
    del objects[STREAMS]
    model = Model.load(objects["model"])
    output = blake3(model.run_batch(objects["golden"], 16))
    about: Any = model.describe()
    bundle, answers = golden_making.complete(
        Bundle(objects, family="f", profile="litert-single", ops=about["ops"], arena_bytes=64,
               features=prints, score="reconstruction", golden_output=output)
    )  # fmt: skip
    assert len(answers) == 5
    data = bundle.objects[STREAMS]
    golden_streams.check(local(bundle.objects), view, [main, weather], data, answers)
    stream = golden_streams.decode(data, [main, weather])[4]
    assert {number for number, _, _ in stream.events} == {0, 1}
    moved = Binding([Slot(one, centre=10.5, scale=9) for one in prints])
    changed = {**bundle.objects, "binding": moved.to_bytes()}
    with pytest.raises(Incompatible, match="'plain': stage 'input'"):
        golden_streams.check(local(changed), view, [main, weather], data, answers)


def network(width: int) -> bytes:
    from edgecore.tflite_writer import Activation, Layer, f32, write_tflite

    chance = random.Random(7)
    weights = array("b", [chance.randint(-127, 127) for _ in range(width * width)])
    layer = Layer(weights, array("i", [0] * width), f32(0.005), (width, width), False)
    return write_tflite([layer], [Activation(f32(0.05), 3), Activation(f32(0.05), -5)], "wide")


@pytest.mark.parametrize("kind", ["wide", "texts", "times", "few"])
def test_golden_streams_of_odd_rows_stay_within_their_limits(kind: str) -> None:
    """A schema of 256 floats, texts of 64 KiB, times at the end of time, a single row."""
    fields = [Field("temp", "f64")]
    if kind == "wide":
        fields += [Field(f"f{at}", "f64") for at in range(255)]
    if kind == "texts":
        fields.append(Field("note", "utf8"))
    schema = Schema("s", tier="bulk", fields=fields)
    view = FeatureView("v", entity="", source="s", lateness="5s", features=[Last("temp")])
    chance, rows = random.Random(2), []
    for at in range(1 if kind == "few" else 200):
        row: dict[str, Any] = {one.name: chance.random() for one in fields}
        if kind == "texts":
            row["note"] = "x" * 60_000
        time = (1 << 63) - 500 + at if kind == "times" else START + at * SECOND
        rows.append({"time": time, **row})
    taken = Batch(schema)
    taken.extend(rows)
    data = golden_making.streams(view, [schema], VerdictSpec().to_bytes(), taken)
    streams = golden_streams.decode(data, [schema])
    assert len(data) <= golden_streams.STREAMS_BYTES_MAX
    assert [len(one.events) >= 12 for one in streams] == [True] * 5
    own = streams[0].events[0][2][0] == rows[0]["temp"]
    assert own == (kind in ("wide", "few"))


# ------------------------------------------------------------------ hostile bytes


def streams_of(count: int = 4, events: int = 3) -> list[Stream]:
    rows: list[Any] = [(0, START + at * SECOND, [1.5 * at]) for at in range(events)]
    return [Stream(f"s{at}", rows) for at in range(count)]


@pytest.mark.parametrize(
    ("streams", "says"),
    [
        (streams_of(3), "3 golden streams: 4 to 16"),
        (streams_of(17), "17 golden streams: 4 to 16"),
        (streams_of(events=513), "1 to 512 events"),
        (streams_of(events=0), "1 to 512 events"),
        ([*streams_of(), streams_of()[0]], "two streams share a name"),
        ([*streams_of(), Stream("n" * 24, streams_of()[0].events)], "1 to 23 bytes"),
        ([*streams_of(), Stream("x", [(1, START, [1.0])])], "of no stream of the view"),
        ([*streams_of(), Stream("x", [(-1, START, [1.0])])], "of no stream of the view"),
        ([*streams_of(), Stream("x", [(0, 1 << 63, [1.0])])], "no integer of 64 bits"),
        ([*streams_of(), Stream("x", [(0, START, [[1.0]])])], "of no type of a field"),
        ([*streams_of(), Stream("x", [(0, START, ["hot"])])], "field 'temp'"),
        ([*streams_of(), Stream("x", [(0, START, [1e9])])], "field 'temp'"),
    ],
)
def test_golden_streams_beyond_a_limit_are_invalid(streams: list[Stream], says: str) -> None:
    with pytest.raises(Invalid, match=says):
        golden_streams.encode([TEMP], streams)


def test_golden_streams_that_are_too_many_bytes_are_invalid() -> None:
    note = Schema("note", tier="bulk", fields=[Field("text", "utf8")])
    rows: list[Any] = [(0, START, ["x" * 1000])] * 100
    with pytest.raises(Invalid, match="at most 262144"):
        golden_streams.encode([note], [Stream(f"s{at}", rows) for at in range(4)])
    with pytest.raises(Corrupt, match="at most 262144"):
        golden_streams.decode(bytes(golden_streams.STREAMS_BYTES_MAX + 1), [note])


def test_golden_streams_of_hostile_bytes_are_corrupt(seed: int) -> None:
    data = golden_streams.encode([TEMP], streams_of())
    other = Schema("pump", tier="bulk", fields=[Field("temp", "f32")])
    body = cbor2.loads(data)
    steps = body["streams"][0][1]
    hostile: list[Any] = [
        {**body, "version": 2}, {**body, "streams": body["streams"][:3]}, {**body, "more": 1},
        {**body, "streams": {}}, {**body, "streams": [["s", 5]] * 4}, [], 7, {},
        {**body, "streams": [["s", [steps[0][:-1]]], *body["streams"][1:]]},
        {**body, "streams": [["s", [[0, "t", 1.0]]], *body["streams"][1:]]},
        {**body, "streams": [["s", [[0, 1 << 80, 1.0]]], *body["streams"][1:]]},
        {**body, "streams": [["s", [[0, 1, 1.0]] * 513], *body["streams"][1:]]},
    ]  # fmt: skip
    for one in hostile:
        with pytest.raises(Corrupt, match="golden streams"):
            golden_streams.decode(cbor2.dumps(one, canonical=True), [TEMP])
    with pytest.raises(Corrupt, match="other schemas"):
        golden_streams.decode(data, [other])
    for deep in (b"\x81" * 5000, b"\xa1" * 5000, data + b"\0", data[:-1], b""):
        with pytest.raises(Corrupt, match="golden streams"):
            golden_streams.decode(deep, [TEMP])
    chance = random.Random(seed)
    for _ in range(2000):
        wrong = bytearray(data)
        wrong[chance.randrange(len(wrong))] = chance.randrange(256)
        try:
            golden_streams.decode(bytes(wrong), [TEMP])
        except Corrupt:
            continue


def test_golden_streams_and_answers_of_another_number_are_refused(released: Released) -> None:
    bundle, answers = released
    with pytest.raises(Corrupt, match="5 golden streams, and answers to 4"):
        check((bundle, answers[:4]))
    for wrong, says in (
        (answers[:3], "4 to 16 golden streams"), (answers * 4, "4 to 16 golden streams"),
        ((*answers[:4], answers[4][1:]), f"has {ANSWER_BYTES} bytes"),
    ):  # fmt: skip
        with pytest.raises(Invalid, match=says):
            bundle.manifest("anomaly", 1, streams_output=wrong)
    bare = Bundle.from_files({k: v for k, v in bundle.files().items() if k != "streams.cbor"})
    with pytest.raises(Invalid, match="no such object"):
        bare.manifest("anomaly", 1, streams_output=answers)
    assert STAGE_BYTES * len(STAGES) == ANSWER_BYTES
