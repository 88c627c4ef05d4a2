"""Lineage: a prediction made again, from the log and the objects of its release alone.

    lineage = rebuild(log, "3:17", objects_in("state/artifacts"))
    lineage.holds, lineage.differences

The context that the prediction names says which model, binding, view and verdict answered and
since when; the log up to the row that was answered goes through fresh features and a fresh
verdict; input, output, score, threshold and verdict are compared with what was recorded.
docs/formats/prediction-lineage.md.
"""

from __future__ import annotations

from edgecore._core import pipeline as _pipeline
from edgecore.errors import Corrupt, Incompatible, Invalid, Unavailable
from edgecore.features import FeatureView
from edgecore.fs import PosixFs
from edgecore.inference import Binding, Model
from edgecore.pipeline import SERVING, checked, read_contexts, role_spec
from edgecore.schema import Schema
from edgecore.streams import GAP, PREDICTION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from edgecore._core import inference as _core
    from edgecore.log import Log
    from edgecore.pipeline import Context, Get, Prediction

OBJECT_BYTES_MAX = 1 << 30
FAILED, UNCOUNTED = "failed", "uncounted"
COMPARED = ("entity", "as_of", "input_hash", "output_hash", "score", "threshold", "verdict")
ALSO_COMPARED = ("episode", "clipped", "substituted", "reason")


class Lineage:
    """One prediction as it was recorded and as it comes out now.

    ``holds``: everything is the same. ``differences``: name -> (recorded, rebuilt). ``features``:
    name -> (value, state 0 fresh, 1 stale, 2 missing) as the model met them.
    """

    __slots__ = (
        "context",
        "differences",
        "features",
        "identity",
        "note",
        "rebuilt",
        "recorded",
    )

    def __init__(
        self,
        identity: str,
        context: Context,
        recorded: dict[str, Any],
        rebuilt: dict[str, Any],
        features: dict[str, tuple[float, int]],
        note: str = "",
    ) -> None:
        self.identity = identity
        self.context = context
        self.recorded = recorded
        self.rebuilt = rebuilt
        self.features = features
        self.note = note
        self.differences = {
            name: (recorded[name], rebuilt[name])
            for name in (*COMPARED, *ALSO_COMPARED)
            if recorded[name] != rebuilt[name]
        }

    @property
    def holds(self) -> bool:
        return not self.differences

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON values; digests in hex."""

        def plain(value: Any) -> Any:
            if isinstance(value, bytes):
                return value.hex()
            if isinstance(value, dict):
                return {key: plain(item) for key, item in value.items()}
            if isinstance(value, list | tuple):
                return [plain(item) for item in value]
            return None if value != value else value

        return {
            "id": self.identity,
            "holds": self.holds,
            "note": self.note,
            "differences": plain(self.differences),
            "recorded": plain(self.recorded),
            "rebuilt": plain(self.rebuilt),
            "features": plain(self.features),
            "context": plain(self.context.body) | {"context": self.context.number},
        }


def parse_identity(text: str, store: bytes) -> tuple[int, int]:
    """``store:partition:sequence`` or ``partition:sequence`` -> (partition, sequence).

    :raises Invalid: malformed, or of another store."""
    parts = text.split(":")
    if len(parts) == 3:
        if parts[0].lower() != store.hex():
            raise Invalid(f"prediction {text}: this log is store {store.hex()}")
        parts = parts[1:]
    if len(parts) != 2 or not all(part.isascii() and part.isdigit() for part in parts):
        raise Invalid(f"prediction {text!r}: [store:]partition:sequence is needed")
    partition, sequence = (int(part) for part in parts)
    if partition >= 1 << 32 or sequence >= 1 << 64:
        raise Invalid(f"prediction {text!r}: a number is out of range")
    return partition, sequence


def objects_in(*directories: str) -> Get:
    """Objects by digest from directories that hold them under their names in hexadecimal, also in
    ``objects/`` or ``blobs/`` below: artifact stores, hubs. Nothing is locked or changed."""
    fs = PosixFs()

    def get(digest: bytes) -> bytes:
        for directory in directories:
            for below in ("", "objects/", "blobs/"):
                path = f"{directory}/{below}{digest.hex()}"
                if fs.exists(path):
                    return fs.read_file(path, OBJECT_BYTES_MAX)
        raise Unavailable(f"object {digest.hex()} is not in {', '.join(directories) or 'nowhere'}")

    return get


def rebuild(log: Log, identity: str, get: Get) -> Lineage:
    """Makes a prediction again.

    :param identity: ``[store:]partition:sequence`` of a row of ``edgecore.prediction``.
    :param get: digest -> bytes of the release's objects, e.g. :func:`objects_in`.
    :raises Invalid: there is no such prediction, or the row that it answers is not in the log.
    :raises Corrupt: its context is missing, or an object is not what its digest says.
    :raises Incompatible: this build can't serve the model or the view.
    :raises Unavailable: an object is not to be had.
    """
    partition, sequence = parse_identity(identity, log.store_id)
    contexts = read_contexts(log)
    recorded, entity, at = _pipeline.find_prediction(log.core, PREDICTION.core, partition, sequence)
    context = next((one for one in contexts if one.number == recorded.context), None)
    if context is None or context.position > at:
        raise Corrupt(f"prediction {identity}: its context {recorded.context} is not in the log")
    if context.body["store"] != log.store_id:
        raise Corrupt(f"prediction {identity}: its context is of another store")
    parts = _Parts(context, get, log)
    run = context.run
    spec = role_spec(
        context.body,
        parts.model,
        parts.binding,
        parts.verdict,
        context=context.number,
        aliases=[one.number for one in contexts if one.run == run and one is not context],
        run=run,
    )
    serving = {one.number for one in contexts if one.role in SERVING}
    before = [one for one in contexts if one.position <= at]
    again, entity_again, values, states = _pipeline.rebuild(
        log.core, parts.view.plans(parts.schema, parts.joined), parts.schema.core,
        PREDICTION.core, serving, context.role, spec, recorded.position, GAP.core,
        _others(recorded.reason, context, before, get),
    )  # fmt: skip
    was, now = _facts(recorded, entity), _facts(again, entity_again)
    now["reason"] = _made_again(recorded.reason, again.reason)
    note = ""
    if recorded.score is None and _reasons(now["reason"]).get(context.role) == FAILED:
        note = "the model gave no answer at the time, and this was recorded"
        now = was | {name: now[name] for name in ("entity", "as_of", "reason")}
    names = [feature.name for feature in parts.view.specs]
    return Lineage(
        f"{log.store_id.hex()}:{partition}:{sequence}", context, was, now,
        dict(zip(names, zip(values, states, strict=True), strict=True)), note,
    )  # fmt: skip


def _reasons(text: str | None) -> dict[str, str]:
    """A prediction's reason by role; that of a row without features under its own word."""
    pairs = [one.partition(":") for one in (text or "").split()]
    return {role: why for role, _, why in pairs}


def _made_again(recorded: str | None, rebuilt: str | None) -> str | None:
    """The rebuilt reason, with what was recorded of models that failed: they may not fail now."""
    failed = {role: why for role, why in _reasons(recorded).items() if why == FAILED}
    found = failed | _reasons(rebuilt)
    if UNCOUNTED in found:
        return UNCOUNTED
    return " ".join(f"{role}:{found[role]}" for role in SERVING if role in found) or None


def _others(
    reason: str | None, context: Context, before: list[Context], get: Get
) -> list[tuple[str, _core.Binding]]:
    """Roles that refused the row before it came to the prediction's own, with their bindings."""
    out = []
    for role, why in _reasons(reason).items():
        of_role = [one for one in before if one.role == role]
        if role == context.role or why == FAILED or not of_role:
            continue
        data = checked(get, of_role[-1].body["binding"], f"binding of role {role}")
        out.append((role, Binding.from_bytes(data).core))
    return out


class _Parts:
    """The objects that a context names."""

    def __init__(self, context: Context, get: Get, log: Log) -> None:
        body = context.body
        self.view = FeatureView.from_bytes(checked(get, body["view"], "view"))
        self.schema = Schema.from_bytes(checked(get, body["schema"], "schema"))
        here = {name for _, name, _ in log.partitions()} & self.view.joins
        known = {one.fingerprint: one for one in map(log.schema, here)}
        self.joined = [
            known[one] if one in known else Schema.from_bytes(checked(get, one, "schema"))
            for one in body.get("joined", [])
        ]
        self.binding = Binding.from_bytes(checked(get, body["binding"], "binding"))
        if [slot.feature for slot in self.binding.slots] != body["features"]:
            raise Corrupt(f"context {context.number}: its binding reads other features")
        self.model: Model | None = None
        self.verdict = b""
        if context.role != "rule":
            self.verdict = checked(get, body["verdict"], "verdict")
            self.model = _model(checked(get, body["model"], "model"), body)


def _model(data: bytes, body: dict[str, Any]) -> Model:
    """The model on the backend that answered. A native model may run on other kernels, which are
    the same to the bit; another backend is another function."""
    backend = str(body["backend"])
    names = {"native": "native", "litert": "litert", "tflite-runtime": "tflite", "tflite": "tflite"}
    if backend not in names:
        raise Incompatible(f"backend {backend!r} is not served here")
    return Model.load(data, backend=names[backend], profile=str(body["profile"]))


def _facts(prediction: Prediction, entity: str) -> dict[str, Any]:
    return {
        "entity": entity,
        "position": prediction.position,
        "as_of": prediction.as_of,
        "score": prediction.score,
        "threshold": prediction.threshold,
        "verdict": prediction.verdict,
        "episode": prediction.episode,
        "clipped": prediction.clipped,
        "substituted": prediction.substituted,
        "input_hash": prediction.input_hash,
        "output_hash": prediction.output_hash,
        "reason": prediction.reason,
    }


__all__ = ["Lineage", "objects_in", "parse_identity", "rebuild"]
