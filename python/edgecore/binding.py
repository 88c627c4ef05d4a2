"""Bindings: how features become a model's input, slot by slot, and which rows are fit for it.

A binding is part of the model: what it learned from was normalised, clipped and substituted so, and
in no other way. docs/formats/binding.md.
"""

from __future__ import annotations

from edgecore import limits
from edgecore._core import features as _features
from edgecore._core import inference as _inference
from edgecore.digest import DIGEST_BYTES
from edgecore.errors import Corrupt, Incompatible, Invalid

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from typing_extensions import Buffer

KINDS = ("value", "state", "category")


def _codes(vocabulary: Iterable[int | str]) -> tuple[int, ...]:
    words = tuple(vocabulary)
    codes = [
        _features.category_code(one.encode()) if isinstance(one, str) else one for one in words
    ]
    return tuple(sorted(codes) if any(isinstance(one, str) for one in words) else codes)


def _duration(value: str | int) -> int:
    if isinstance(value, int):
        return value
    from edgecore.feature_spec import duration_ns

    return duration_ns(value)


def _whole(value: object) -> int:
    if type(value) is not int:
        raise Invalid(f"max_age {value!r} is no number of nanoseconds")
    return value


class Slot:
    """One model input: which feature it reads and how that becomes a number.

    The normalised value is ``clamp((v - centre) / max(scale, scale_floor), *clip)``.

    :param feature: fingerprint of the feature, 32 bytes.
    :param kind: ``value``; ``state`` (0 fresh, 1 stale, 2 missing); ``category`` (the index of
        the code in the vocabulary, or `unknown`, or `missing`).
    :param substitute: stands for a missing value, in the feature's unit; the centre by default.
    :param vocabulary: of a category: codes, ascending; or texts, whose codes are taken in order.
    :param max_age: of a value or category: of the newest event behind it; the binding's otherwise.
    """

    __slots__ = (
        "centre",
        "clip",
        "feature",
        "kind",
        "max_age",
        "missing",
        "scale",
        "scale_floor",
        "substitute",
        "unknown",
        "vocabulary",
    )

    def __init__(
        self,
        feature: bytes,
        kind: str = "value",
        *,
        centre: float = 0.0,
        scale: float = 1.0,
        scale_floor: float = 1e-6,
        clip: tuple[float, float] = (-8.0, 8.0),
        substitute: float | None = None,
        vocabulary: Iterable[int | str] = (),
        unknown: float = -1.0,
        missing: float = -2.0,
        max_age: str | int = 0,
    ) -> None:
        if kind not in KINDS:
            raise Invalid(f"slot kind {kind!r}: one of {', '.join(KINDS)}")
        if len(feature) != DIGEST_BYTES:
            raise Invalid(f"slot: a feature fingerprint has {DIGEST_BYTES} bytes")
        self.feature = bytes(feature)
        self.kind = kind
        self.centre = float(centre)
        self.scale = float(scale)
        self.scale_floor = float(scale_floor)
        self.clip = (float(clip[0]), float(clip[1]))
        self.substitute = self.centre if substitute is None else float(substitute)
        self.vocabulary = _codes(vocabulary)
        self.unknown = float(unknown)
        self.missing = float(missing)
        self.max_age = _duration(max_age)

    def canonical(self) -> dict[str, object]:
        """The map that is encoded: every number, so that a default may change without harm."""
        out: dict[str, object] = {
            "feature": self.feature,
            "kind": self.kind,
            "centre": self.centre,
            "scale": self.scale,
            "scale_floor": self.scale_floor,
            "clip": list(self.clip),
            "substitute": self.substitute,
        }
        if self.kind == "category":
            out["vocabulary"] = list(self.vocabulary)
            out["unknown"] = self.unknown
            out["missing"] = self.missing
        return out | ({"max_age": self.max_age} if self.max_age else {})

    @staticmethod
    def from_canonical(body: Mapping[str, Any]) -> Slot:
        """The inverse of :meth:`canonical`. Raises ``Corrupt`` for anything else."""
        try:
            low, high = body["clip"]
            return Slot(
                body["feature"],
                body["kind"],
                centre=body["centre"],
                scale=body["scale"],
                scale_floor=body["scale_floor"],
                clip=(low, high),
                substitute=body["substitute"],
                vocabulary=body.get("vocabulary", ()),
                unknown=body.get("unknown", -1.0),
                missing=body.get("missing", -2.0),
                max_age=_whole(body.get("max_age", 0)),
            )
        except (KeyError, TypeError, ValueError, OverflowError, Invalid) as error:
            raise Corrupt(f"binding slot: {error}") from None

    def parts(self) -> Sequence[object]:
        """What the compiled binding is made from."""
        numbers = (self.centre, self.scale, self.scale_floor, *self.clip, self.substitute)
        vocabulary = list(self.vocabulary)
        kind = KINDS.index(self.kind)
        ends = (self.unknown, self.missing, self.max_age)
        return (self.feature, kind, *numbers, vocabulary, *ends)


class Binding:
    """How features become a model's input, slot by slot, and when a row is fit for a decision
    (docs/formats/binding.md). Immutable.

    :param max_age: of the newest event behind each value and category, e.g. ``"5m"``; where one is
        older, or there is none, the model does not answer the row. 0: any age.
    :param min_full: share of the slots, 0 to 1, that must be fresh and not substituted.
    :raises Invalid: no slot, too many, or a slot with a number that has no meaning.
    """

    __slots__ = ("core", "max_age", "min_full", "slots")

    def __init__(
        self, slots: Iterable[Slot], *, max_age: str | int = 0, min_full: float = 0.0
    ) -> None:
        self.slots = tuple(slots)
        self.max_age = _duration(max_age)
        self.min_full = float(min_full)
        if not 1 <= len(self.slots) <= limits.BINDING_SLOTS_MAX:
            raise Invalid(f"a binding has 1 to {limits.BINDING_SLOTS_MAX} slots")
        try:
            parts = [slot.parts() for slot in self.slots]
            self.core = _inference.Binding(parts, self.max_age, self.min_full)
        except (TypeError, ValueError, RuntimeError) as error:
            raise Invalid(f"binding: {error}") from None

    def __len__(self) -> int:
        return len(self.slots)

    def to_bytes(self) -> bytes:
        """Deterministic CBOR; equal bindings give equal bytes."""
        from cbor2 import dumps

        body: dict[str, object] = {"slots": [slot.canonical() for slot in self.slots], "version": 1}
        if self.max_age:
            body["max_age"] = self.max_age
        if self.min_full:
            body["min_full"] = self.min_full
        return dumps(body, canonical=True)

    @staticmethod
    def from_bytes(data: bytes) -> Binding:
        """The inverse of :meth:`to_bytes`.

        :raises Corrupt: not the canonical form of a binding.
        :raises Incompatible: a later version.
        """
        from cbor2 import CBORDecodeError, loads

        if len(data) > limits.BINDING_BYTES_MAX:
            raise Corrupt(f"binding of {len(data)} bytes: at most {limits.BINDING_BYTES_MAX}")
        try:
            body = loads(data)
            version = body["version"]
            if type(version) is int and version > 1:
                raise Incompatible(f"binding: version {version} is not known here")
            binding = Binding(
                [Slot.from_canonical(slot) for slot in body["slots"]],
                max_age=_whole(body.get("max_age", 0)), min_full=body.get("min_full", 0.0),
            )  # fmt: skip
            again = binding.to_bytes()
        except (CBORDecodeError, KeyError, TypeError, ValueError, RecursionError, Invalid) as error:
            raise Corrupt(f"binding: {error}") from None
        if again != data:
            raise Corrupt("binding: the encoding is not the canonical one")
        return binding

    def quantise(
        self, values: Buffer, states: Buffer, quantisation: tuple[float, int]
    ) -> tuple[bytes, int, int]:
        """One row of features as int8 codes.

        :param values: one f64 per slot, NaN where missing; :param states: one u8 per slot.
        :param quantisation: the model's input quantisation.
        :returns: (codes, how many were clipped, how many substituted).
        :raises Invalid: sizes that are not the binding's.
        """
        codes, clipped, substituted, _ = self.core.quantise(values, states, quantisation)
        return codes, clipped, substituted

    def normalise(self, values: Buffer, states: Buffer) -> bytes:
        """The normalised values before the clip, one f64 per slot: what reconstruction compares."""
        return self.core.quantise(values, states, (1.0, 0))[3]

    def refusal(self, values: Buffer, states: Buffer, ages: Buffer = b"") -> str:
        """Why a row is not fit for a decision: ``old``, ``sparse``, or ``""`` where it is fit.

        :param ages: i64 ns per slot, negative without an event; needed where there is a max_age.
        :raises Invalid: sizes that are not the binding's.
        """
        return self.core.refusal(values, states, ages)


__all__ = ["KINDS", "Binding", "Slot"]
