"""Models and bindings: int8 networks behind one face, and how features become their input.

A model is a standard ``.tflite`` file. The native executor serves chains of FULLY_CONNECTED and
RESHAPE, to the bit as the field's reference kernels round (the *profile*: ``litert-single`` or
``tflite-double``); whatever it does not serve goes to an installed runtime. Profile, backend and
ISA are part of a prediction's lineage, because outputs differ between runtimes.
"""

from __future__ import annotations

from edgecore import limits
from edgecore._core import inference as _inference
from edgecore.digest import DIGEST_BYTES, blake3
from edgecore.errors import Corrupt, Incompatible, Invalid, Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any, Protocol

    from typing_extensions import Buffer

    class Backend(Protocol):
        """What runs a model: the core's ``Executor``, or a runtime that only Python reaches."""

        @property
        def input_size(self) -> int: ...
        @property
        def output_size(self) -> int: ...
        @property
        def input_quantisation(self) -> tuple[float, int]: ...
        @property
        def output_quantisation(self) -> tuple[float, int]: ...
        @property
        def arena_bytes(self) -> int: ...
        def describe(self) -> dict[str, object]: ...
        def run(self, input: Buffer) -> bytes: ...
        def run_batch(self, input: Buffer, rows: int) -> bytes: ...


BACKENDS = ("auto", "native", "litert", "tflite")
PROFILES = ("litert-single", "tflite-double")
KINDS = ("value", "state", "category")


class Model:
    """A loaded model. Immutable; threads may share it. Made by :meth:`load`."""

    __slots__ = ("_backend", "digest")

    def __init__(self, backend: Backend, digest: bytes) -> None:
        self._backend = backend
        self.digest = digest

    @staticmethod
    def load(
        artifact: bytes,
        manifest: Mapping[str, Any] | None = None,
        *,
        backend: str = "auto",
        profile: str = "litert-single",
        isa: str = "best",
    ) -> Model:
        """Verifies and opens a ``.tflite`` file.

        :param manifest: a release manifest; its model digest and its profile then hold.
        :param backend: ``auto`` is native where it serves the model's operators.
        :param isa: kernel of the native backend: ``best`` of this processor, ``portable``,
            ``avx2``, ``avx512-vnni`` or ``neon-dot``.
        :raises Corrupt: malformed bytes, or not those that the manifest names.
        :raises Incompatible: an operator, type, profile or ISA that is not served here.
        :raises Unavailable: a runtime that was asked for is not installed.
        """
        if backend not in BACKENDS:
            raise Invalid(f"backend {backend!r}: one of {', '.join(BACKENDS)}")
        digest = blake3(artifact)
        if manifest is not None:
            profile = str(manifest.get("profile", profile))
            named = _model_digest(manifest)
            if named is not None and named != digest:
                raise Corrupt(f"model: its digest is {digest.hex()}, not {named.hex()}")
        if profile not in PROFILES:
            raise Incompatible(f"profile {profile!r}: this build serves {', '.join(PROFILES)}")
        if backend in ("litert", "tflite"):
            raise Unavailable(f"backend {backend!r} is not installed; use native")
        return Model(_inference.load_native(artifact, profile, isa), digest)

    @property
    def core(self) -> _inference.Executor | None:
        """The compiled executor that the pipeline runs; None when only Python reaches it."""
        return self._backend if isinstance(self._backend, _inference.Executor) else None

    @property
    def backend(self) -> Backend:
        """What runs the model."""
        return self._backend

    @property
    def input_size(self) -> int:
        """int8 values of one input row."""
        return self._backend.input_size

    @property
    def output_size(self) -> int:
        """int8 values of one output row."""
        return self._backend.output_size

    @property
    def input_quantisation(self) -> tuple[float, int]:
        """(scale, zero point): real = scale * (code - zero point)."""
        return self._backend.input_quantisation

    @property
    def output_quantisation(self) -> tuple[float, int]:
        """(scale, zero point): real = scale * (code - zero point)."""
        return self._backend.output_quantisation

    def run(self, input: Buffer) -> bytes:
        """One row: ``input_size`` int8 codes -> ``output_size`` int8 codes.

        :raises Invalid: when the buffer has another size.
        """
        return self._backend.run(input)

    def run_batch(self, input: Buffer, rows: int) -> bytes:
        """Rows one after another: the same bytes as row by row. Raises ``Invalid`` as run()."""
        return self._backend.run_batch(input, rows)

    def describe(self) -> dict[str, object]:
        """``backend``, ``isa``, ``profile``, ``ops``, ``arena_bytes``, ``digest`` (hex)."""
        return self._backend.describe() | {
            "arena_bytes": self._backend.arena_bytes,
            "digest": self.digest.hex(),
        }

    def check_golden(self, inputs: bytes, expected: bytes) -> None:
        """Runs golden inputs through the backend that will serve, before it serves.

        :param inputs: int8 rows, one after another.
        :param expected: BLAKE3 of the concatenated outputs.
        :raises Invalid: when the inputs are not whole rows.
        :raises Incompatible: when this backend computes other outputs.
        """
        rows, rest = divmod(len(inputs), self.input_size)
        if rest or not rows:
            raise Invalid(f"golden inputs: not whole rows of {self.input_size} bytes")
        found = blake3(self.run_batch(inputs, rows))
        if found != expected:
            what = self._backend.describe()
            raise Incompatible(
                f"golden vectors: {what['backend']} {what['isa']} ({what['profile']}) computes "
                f"{found.hex()[:16]}, not {expected.hex()[:16]}, over {rows} rows"
            )


def _model_digest(manifest: Mapping[str, Any]) -> bytes | None:
    """The digest of the object ``model``: as bytes, or as the first of [digest, length]."""
    entry = manifest.get("objects", {}).get("model")
    if isinstance(entry, list | tuple) and entry:
        entry = entry[0]
    elif isinstance(entry, dict):
        entry = entry.get("digest")
    return entry if isinstance(entry, bytes) else None


class Slot:
    """One model input: which feature it reads and how that becomes a number.

    The normalised value is ``clamp((v - centre) / max(scale, scale_floor), *clip)``.

    :param feature: fingerprint of the feature, 32 bytes.
    :param kind: ``value``; ``state`` (0 fresh, 1 stale, 2 missing); ``category`` (the index of
        the code in the vocabulary, or `unknown`, or `missing`).
    :param substitute: stands for a missing value, in the feature's unit; the centre by default.
    """

    __slots__ = (
        "centre",
        "clip",
        "feature",
        "kind",
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
        vocabulary: Iterable[int] = (),
        unknown: float = -1.0,
        missing: float = -2.0,
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
        self.vocabulary = tuple(vocabulary)
        self.unknown = float(unknown)
        self.missing = float(missing)

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
        return out

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
            )
        except (KeyError, TypeError, ValueError, OverflowError, Invalid) as error:
            raise Corrupt(f"binding slot: {error}") from None

    def parts(self) -> Sequence[object]:
        """What the compiled binding is made from."""
        numbers = (self.centre, self.scale, self.scale_floor, *self.clip, self.substitute)
        vocabulary = list(self.vocabulary)
        kind = KINDS.index(self.kind)
        return (self.feature, kind, *numbers, vocabulary, self.unknown, self.missing)


class Binding:
    """How features become a model's input, slot by slot (docs/formats/binding.md). Immutable.

    :raises Invalid: no slot, too many, or a slot with a number that has no meaning.
    """

    __slots__ = ("core", "slots")

    def __init__(self, slots: Iterable[Slot]) -> None:
        self.slots = tuple(slots)
        if not 1 <= len(self.slots) <= limits.BINDING_SLOTS_MAX:
            raise Invalid(f"a binding has 1 to {limits.BINDING_SLOTS_MAX} slots")
        try:
            self.core = _inference.Binding([slot.parts() for slot in self.slots])
        except (TypeError, ValueError, RuntimeError) as error:
            raise Invalid(f"binding: {error}") from None

    def __len__(self) -> int:
        return len(self.slots)

    def to_bytes(self) -> bytes:
        """Deterministic CBOR; equal bindings give equal bytes."""
        from cbor2 import dumps

        body = {"slots": [slot.canonical() for slot in self.slots], "version": 1}
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
            binding = Binding([Slot.from_canonical(slot) for slot in body["slots"]])
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


def score(kind: str, normalised: Buffer, output: Buffer, quantisation: tuple[float, int]) -> int:
    """One number out of a model's output, in millionths (decimal(6)).

    :param kind: ``reconstruction`` (mean squared difference of `normalised`, f64, and the
        dequantised output), ``identity`` (the first output) or ``argmax``.
    :raises Incompatible: reconstruction over other sizes. :raises Invalid: an unknown kind.
    """
    return _inference.score(kind, normalised, output, quantisation)


__all__ = ["BACKENDS", "KINDS", "PROFILES", "Binding", "Model", "Slot", "score"]
