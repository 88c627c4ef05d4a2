"""The judge's view of lineage: the shown prediction made again, twice.

Once as `edgecore lineage show` does it, with the core's kernels, from the device's log and the
objects of its releases; what comes out is compared with the exported row. And once by a path that
shares nothing with the core but the model: features straight from their definition over a list of
events, the quantiser, the score and the running threshold from their pages in docs/formats.

Reads ``device_log``, ``artifacts`` and ``shown`` (store, partition, sequence) of the facts, and
``releaser`` for objects that the device has let go.
"""

from __future__ import annotations

import struct
from decimal import ROUND_HALF_EVEN, Decimal

from edgecore.cli.checker_features import FRESH, STALE, History
from edgecore.digest import blake3
from edgecore.errors import EdgecoreError
from edgecore.wire import cbor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from edgecore.cli.checker import Evidence
    from edgecore.cli.checker_features import Value
    from edgecore.log import Log
    from edgecore.pipeline import Context, Get

RECORDED = (
    "entity", "as_of", "score", "threshold", "verdict", "input_hash", "output_hash", "reason",
)  # fmt: skip
SERVING = ("active", "fallback", "rule")
NORMAL, ANOMALOUS, NOT_JUDGED = 0, 1, 2
INT64_MAX = 2**63 - 1


def check_lineage(evidence: Evidence) -> str | None:
    """The shown prediction is what its log and its release make, to the bit."""
    from edgecore.lineage import objects_in, rebuild
    from edgecore.log import Log

    facts = evidence.facts
    shown = tuple(facts["shown"])
    found = [
        event
        for event in evidence.device
        if (event["store"], event["partition"], event["sequence"]) == shown
    ]
    if len(found) != 1:
        return f"prediction {shown[1]}:{shown[2]} is exported {len(found)} times"
    exported = found[0]["values"]
    get = objects_in(str(facts["artifacts"]), str(facts["releaser"]))
    try:
        with Log.open(facts["device_log"], read_only=True) as log:
            lineage = rebuild(log, ":".join(str(part) for part in shown), get)
            again = {name: _plain(name, lineage.rebuilt[name]) for name in RECORDED}
            wrong = _differs(exported, again, "rebuilt")
            return wrong or _differs(exported, Plain(log, lineage.context, get).answer(exported),
                                     "made by hand")  # fmt: skip
    except EdgecoreError as error:
        return f"prediction {shown[1]}:{shown[2]}: {error.word}: {error}"


def _plain(name: str, value: Any) -> Any:
    """A rebuilt value in the form of an export."""
    if isinstance(value, bytes):
        return value.hex()
    if name in ("score", "threshold") and value is not None:
        return millionths(Decimal(repr(value)))
    return value


def _differs(exported: dict[str, Any], again: dict[str, Any], how: str) -> str | None:
    for name in RECORDED:
        was = exported[name]
        if name in ("score", "threshold") and was is not None:
            was = millionths(Decimal(was))
        if name in again and was != again[name]:
            return f"{name} was recorded as {exported[name]}, {how} it is {again[name]}"
    return None


def millionths(value: Decimal) -> int:
    """On the score grid, ties to even."""
    return int(value.scaleb(6).quantize(Decimal(1), ROUND_HALF_EVEN))


class Plain:
    """The path by hand, for one context's run."""

    def __init__(self, log: Log, context: Context, get: Get) -> None:
        from edgecore.inference import Model
        from edgecore.pipeline import read_contexts

        body = context.body
        self.log, self.body = log, body
        self.view = cbor.decode(get(body["view"]))
        self.binding = cbor.decode(get(body["binding"]))
        self.slots = self.binding["slots"]
        self.schema = cbor.decode(get(body["schema"]))
        self.columns = [self._column(slot["feature"]) for slot in self.slots]
        self.rule = context.role == "rule"
        if not self.rule:
            self.verdict = get(body["verdict"])
            self.model = Model.load(get(body["model"]), profile=body["profile"], isa="portable")
        contexts = read_contexts(log)
        self.own = {one.number for one in contexts if one.run == context.run}
        self.serving = {one.number for one in contexts if one.role in SERVING}

    def _column(self, fingerprint: bytes) -> int:
        """Which feature of the view a slot reads: by its fingerprint over the schema."""
        fields = {field["name"]: blake3(cbor.encode(field)) for field in self.schema["fields"]}
        rules = {
            "entity": fields.get(self.view["entity"], b""),
            "source": self.view["source"],
            "lateness": self.view["lateness"],
        }
        for i, feature in enumerate(self.view["features"]):
            named = ("name", "op", "version", "field")
            definition = {
                "op": f"{feature['op']}@{feature['version']}",
                "params": {key: value for key, value in feature.items() if key not in named},
                "fields": [fields[feature["field"]]] if "field" in feature else [],
                "rules": rules,
            }
            if blake3(cbor.encode(definition)) == fingerprint:
                return i
        return -1

    def answer(self, exported: dict[str, Any]) -> dict[str, Any]:
        """What the run answers to the row at the exported prediction's position."""
        wanted = int(exported["position"])
        recorded = self._recorded()
        scores: list[tuple[int, int]] = []  # (score, time) of what the verdict saw
        history = History(self.log.schema(self.view["source"]), self.view)
        told = self._gaps(wanted)
        for scanned in self.log.scan(self.view["source"], until=wanted):
            for i, row in enumerate(scanned.rows(exact=True)):
                position = scanned.position + i
                while told and told[0][0] < position:
                    history.gaps.append(told.pop(0)[1])
                history.add(row)
                if position == wanted:
                    return self._judge(history, row, scores)
                if self._saw(position, recorded):
                    known = recorded.get(position, {}).get("score")
                    score = known if known is not None else self._score(history, row)
                    if score is not None:
                        scores.append((score, row["time"]))
        return {}

    def _gaps(self, until: int) -> list[tuple[int, tuple[int, int]]]:
        """Position and span of those that the log tells of, docs/formats/gap.md."""
        return [
            (scanned.position + i, (row["begin"], row["end"]))
            for scanned in self.log.scan("edgecore.gap", until=until)
            for i, row in enumerate(scanned.rows())
            if row["stream"] == self.view["source"] and row["begin"] < row["end"]
        ]

    def _recorded(self) -> dict[int, dict[str, Any]]:
        """By position: whether it was served, and the run's own score."""
        found: dict[int, dict[str, Any]] = {}
        for scanned in self.log.scan("edgecore.prediction"):
            for row in scanned.rows(exact=True):
                entry = found.setdefault(row["position"], {"served": False, "score": None})
                entry["served"] |= row["context"] in self.serving
                if row["context"] in self.own and row["score"] is not None:
                    entry["score"] = millionths(Decimal(row["score"]))
        return found

    def _saw(self, position: int, recorded: dict[int, dict[str, Any]]) -> bool:
        """docs/formats/prediction-lineage.md, "Rebuilding"."""
        if self.rule or position <= self.body["since"]:
            return False
        if self.body["role"] != "active" or position <= self.body["at"]:
            return True
        entry = recorded.get(position)
        return entry is None or not entry["served"] or entry["score"] is not None

    def _input(self, history: History, row: dict[str, Any]) -> list[float] | None:
        """The normalised values, before the clip; None of a row that is too late or refused."""
        features = history.read(row)
        if features is None or self._refuses(features, history.ages(row)):
            return None
        out = []
        for slot, column in zip(self.slots, self.columns, strict=True):
            value, state = features[column]
            if slot["kind"] == "state":
                value = float(state)
            elif slot["kind"] == "category":
                value = _category(slot, value)
            elif value is None:
                value = slot["substitute"]
            assert value is not None
            out.append((value - slot["centre"]) / max(slot["scale"], slot["scale_floor"]))
        return out

    def _refuses(self, features: list[Value], ages: list[int]) -> bool:
        """docs/formats/binding.md, "The decision window"."""
        full = 0
        for slot, column in zip(self.slots, self.columns, strict=True):
            (value, state), says = features[column], self.view["features"][column]
            if state == STALE and says.get("on_stale") == "refuse":
                return True
            bound = slot.get("max_age", self.binding.get("max_age"))
            if slot["kind"] != "state" and bound is not None and not 0 <= ages[column] <= bound:
                return True
            full += state == FRESH and (slot["kind"] == "state" or value is not None)
        return bool(full / len(self.slots) < self.binding.get("min_full", 0))

    def _codes(self, normalised: list[float]) -> bytes:
        scale, zero = self.model.input_quantisation
        codes = []
        for x, slot in zip(normalised, self.slots, strict=True):
            low, high = slot["clip"]
            steps = min(max(min(max(x, low), high) / scale, -1024.0), 1024.0)
            codes.append(min(max(round(steps) + zero, -128), 127))
        return struct.pack(f"{len(codes)}b", *codes)

    def _real(self, normalised: list[float], output: bytes) -> int:
        scale, zero = self.model.output_quantisation
        codes = struct.unpack(f"{len(output)}b", output)
        if self.body["score"] == "argmax":
            return codes.index(max(codes)) * 1_000_000
        real = [float(code - zero) * scale for code in codes]
        if self.body["score"] == "identity":
            return millionths(Decimal(repr(real[0])))
        total = 0.0
        for x, y in zip(normalised, real, strict=True):
            total += (x - y) * (x - y)
        return millionths(Decimal(repr(total / len(real))))

    def _score(self, history: History, row: dict[str, Any]) -> int | None:
        normalised = self._input(history, row)
        if normalised is None:
            return None
        return self._real(normalised, self.model.run(self._codes(normalised)))

    def _judge(
        self, history: History, row: dict[str, Any], scores: list[tuple[int, int]]
    ) -> dict[str, Any]:
        normalised = self._input(history, row)
        nothing = blake3(b"").hex()
        out: dict[str, Any] = {"entity": history.entity(row), "as_of": row["time"]}
        if normalised is None:
            unjudged = {"score": None, "threshold": None, "verdict": NOT_JUDGED}
            return out | unjudged | {"input_hash": nothing, "output_hash": nothing}
        if self.rule:
            total = 0.0
            for x in normalised:
                total += x * x
            score, limit = millionths(Decimal(repr(total / len(normalised)))), self.body["limit"]
            digest = blake3(struct.pack(f"<{len(normalised)}d", *normalised)).hex()
            judged = {"score": score, "threshold": limit, "verdict": int(score >= limit)}
            return out | judged | {"input_hash": digest, "output_hash": nothing}
        codes = self._codes(normalised)
        output = self.model.run(codes)
        score = self._real(normalised, output)
        threshold, verdict = running(self.verdict, [*scores, (score, row["time"])])
        return out | {
            "score": score, "threshold": threshold, "verdict": verdict,
            "input_hash": blake3(codes).hex(), "output_hash": blake3(output).hex(),
        }  # fmt: skip


def _category(slot: dict[str, Any], value: float | None) -> float:
    if value is None:
        return float(slot["missing"])
    if value in slot["vocabulary"]:
        return float(slot["vocabulary"].index(value))
    return float(slot["unknown"])


def running(spec: bytes, scores: list[tuple[int, int]]) -> tuple[int | None, int]:
    """(threshold, verdict) of the last of the scores; docs/formats/verdict.md, line by line."""
    (window, warmup, quantile, leave, factor, enter, calm_needed, floor, gap) = struct.unpack(
        "<8xIIHHIIIqq", spec
    )
    above = calm = 0
    inside = False
    latest: int | None = None
    threshold, verdict = floor, NOT_JUDGED
    past: list[int] = []
    for decided, (score, time) in enumerate(scores):
        ordered = sorted(past[-window:])
        threshold = floor
        if ordered:
            typical = max(ordered[(len(ordered) - 1) * quantile // 1000], 0)
            threshold = max(floor, min(typical * factor // 1000, INT64_MAX))
        if latest is not None and time - latest > gap:
            inside, above = False, 0
        latest = time if latest is None else max(latest, time)
        past.append(score)
        if decided < warmup:
            continue
        if inside:
            calm = calm + 1 if score <= threshold * leave // 1000 else 0
            if calm >= calm_needed:
                inside, above = False, 0
        else:
            above = above + 1 if score > threshold else 0
            if above >= enter:
                inside, calm = True, 0
        verdict = ANOMALOUS if inside else NORMAL
    return (None if verdict == NOT_JUDGED else threshold), verdict


__all__ = ["check_lineage", "running"]
