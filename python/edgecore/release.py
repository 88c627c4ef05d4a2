"""Releases: the signed set that activates and rolls back together.

docs/formats/release-manifest.md is the form of its manifest.

A :class:`Manifest` says by digest what a release holds and all that compatibility needs. A
:class:`Bundle` is what training leaves behind and a releaser makes a manifest from. A
:class:`VerifiedRelease` is a manifest whose signatures were checked: only ``trust`` makes one, and
the device and the pipeline take nothing else.

Pure: bytes in, values out.
"""

from __future__ import annotations

from edgecore.digest import DIGEST_BYTES, blake3
from edgecore.errors import Corrupt, Invalid
from edgecore.limits import NAME_BYTES_MAX

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from edgecore.schema import Schema

MANIFEST_BYTES_MAX = 16 * 1024
OBJECT_BYTES_MAX = 1 << 30
VERSION_MAX = (1 << 32) - 1
TRUST_CLASSES = ("released", "local")
FACTS_FILE = "bundle.json"

# Object of a release -> its file in a bundle directory.
OBJECTS = {
    "model": "model.tflite",
    "binding": "binding.cbor",
    "view": "view.cbor",
    "schema": "schema.cbor",
    "verdict": "verdict.cbor",
    "golden": "golden.bin",  # int8 input rows, one after the other
}
# Of one whose view reads other streams besides: their schemas.
JOINED = "joined"
JOINED_FILE = "joined.cbor"
# Of one that was published with them: events that a device answers before it serves.
STREAMS = "streams"
STREAMS_FILE = "streams.cbor"
STREAMS_MIN, STREAMS_MAX = 4, 16
ANSWER_BYTES = 80
OPTIONAL = {JOINED: JOINED_FILE, STREAMS: STREAMS_FILE}


class Observation:
    """What a release must show before it is believed, in its trial and again while active.

    :param min_predictions: as many are judged before an answer is given;
    :param max_seconds: a trial that is not done by then has failed;
    :param max_alarm_share: of the judged predictions, in [0, 1];
    :param max_errors: predictions that could not be made."""

    __slots__ = ("max_alarm_share", "max_errors", "max_seconds", "min_predictions")

    def __init__(
        self,
        min_predictions: int = 100,
        max_seconds: int = 86_400,
        max_alarm_share: float = 1.0,
        max_errors: int = 0,
    ) -> None:
        for name, value in (
            ("min_predictions", min_predictions),
            ("max_seconds", max_seconds),
            ("max_errors", max_errors),
        ):
            if type(value) is not int or not 0 <= value <= VERSION_MAX:
                raise Invalid(f"observation: {name} is no unsigned integer of 32 bits")
        share = max_alarm_share
        if not isinstance(share, float | int) or not 0.0 <= share <= 1.0:
            raise Invalid("observation: max_alarm_share lies in [0, 1]")
        self.min_predictions = min_predictions
        self.max_seconds = max_seconds
        self.max_alarm_share = float(share)
        self.max_errors = max_errors

    def body(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


class Manifest:
    """The description of one release. Raises ``Invalid`` for values out of their bounds.

    :param objects: name -> (BLAKE3, length in bytes) of everything in :data:`OBJECTS`, and of
        :data:`JOINED` where the view reads other streams, and of :data:`STREAMS` with answers;
    :param golden_output: BLAKE3 of the model's int8 outputs for the golden inputs, in order;
    :param profile: rounding profile of the model; :param ops: its operators;
    :param features: fingerprints of the features that the binding reads;
    :param score: kind of the score; :param minimum: no device that knows this release goes below;
    :param rollback: versions that it may be replaced by although they are lower;
    :param streams_output: what is made of each golden stream: 80 bytes, see
        docs/formats/golden-streams.md."""

    __slots__ = (
        "arena_bytes", "family", "features", "golden_output", "minimum", "name", "objects",
        "observation", "ops", "profile", "rollback", "score", "streams_output", "trust",
        "version",
    )  # fmt: skip

    def __init__(
        self,
        *,
        family: str,
        name: str,
        version: int,
        objects: Mapping[str, tuple[bytes, int]],
        golden_output: bytes,
        profile: str,
        ops: Iterable[str],
        arena_bytes: int,
        features: Iterable[bytes],
        score: str,
        minimum: int = 0,
        rollback: Iterable[int] = (),
        observation: Observation | None = None,
        trust: str = "released",
        streams_output: Iterable[bytes] = (),
    ) -> None:
        self.family = _name("family", family)
        self.name = _name("name", name)
        self.version = _unsigned("version", version, 1)
        self.objects = {key: objects[key] for key in sorted(objects)}
        self.golden_output = _digest("golden_output", golden_output)
        self.profile = _name("profile", profile)
        self.ops = tuple(ops)
        self.arena_bytes = _unsigned("arena_bytes", arena_bytes)
        self.features = tuple(_digest("feature", feature) for feature in features)
        self.score = _name("score", score)
        self.minimum = _unsigned("minimum", minimum)
        self.rollback = tuple(sorted({_unsigned("rollback", item, 1) for item in rollback}))
        self.observation = observation or Observation()
        self.trust = trust
        self.streams_output = tuple(streams_output)
        self._check()

    def _check(self) -> None:
        if set(self.objects) - set(OPTIONAL) != set(OBJECTS):
            raise Invalid(f"manifest: the objects are {', '.join(OBJECTS)}")
        answers = self.streams_output
        if not all(isinstance(one, bytes) and len(one) == ANSWER_BYTES for one in answers):
            raise Invalid(f"manifest: the answer to a golden stream has {ANSWER_BYTES} bytes")
        if STREAMS in self.objects and not STREAMS_MIN <= len(answers) <= STREAMS_MAX:
            raise Invalid(f"manifest: {STREAMS_MIN} to {STREAMS_MAX} golden streams are answered")
        if answers and STREAMS not in self.objects:
            raise Invalid("manifest: answers to golden streams, and no such object")
        for name, (digest, length) in self.objects.items():
            _digest(name, digest)
            if type(length) is not int or not 0 <= length <= OBJECT_BYTES_MAX:
                raise Invalid(f"manifest: {name} is over {OBJECT_BYTES_MAX} bytes")
        if not all(isinstance(op, str) and op for op in self.ops):
            raise Invalid("manifest: an operator has no name")
        if self.minimum > self.version:
            raise Invalid(f"manifest: minimum {self.minimum} is above version {self.version}")
        if any(version >= self.version for version in self.rollback):
            raise Invalid("manifest: a rollback target is not below the version")
        if self.trust not in TRUST_CLASSES:
            raise Invalid(f"manifest: trust class {self.trust!r}: {' or '.join(TRUST_CLASSES)}")

    @property
    def path(self) -> str:
        """The name of the release as a target: ``name/version``."""
        return f"{self.name}/{self.version}"

    def encode(self) -> bytes:
        """Deterministic CBOR. Raises ``Invalid`` above 16 KiB."""
        from cbor2 import dumps

        body = {
            "version": 1,
            "family": self.family,
            "name": self.name,
            "release": self.version,
            "objects": {key: list(value) for key, value in self.objects.items()},
            "golden_output": self.golden_output,
            "profile": self.profile,
            "ops": list(self.ops),
            "arena_bytes": self.arena_bytes,
            "features": list(self.features),
            "score": self.score,
            "minimum": self.minimum,
            "rollback": list(self.rollback),
            "observation": self.observation.body(),
            "trust": self.trust,
        }
        if self.streams_output:
            body["streams_output"] = list(self.streams_output)
        data = dumps(body, canonical=True)
        if len(data) > MANIFEST_BYTES_MAX:
            raise Invalid(f"manifest of {len(data)} bytes: at most {MANIFEST_BYTES_MAX}")
        return data

    @staticmethod
    def decode(data: bytes) -> Manifest:
        """The inverse of :meth:`encode`; raises ``Corrupt`` for anything it would not make."""
        from cbor2 import CBORDecodeError, loads

        if len(data) > MANIFEST_BYTES_MAX:
            raise Corrupt(f"manifest of {len(data)} bytes: at most {MANIFEST_BYTES_MAX}")
        try:
            body = loads(data)
            if body["version"] != 1:
                raise Corrupt("manifest: unknown version")
            manifest = Manifest(
                version=body["release"],
                objects={key: (value[0], value[1]) for key, value in body["objects"].items()},
                observation=Observation(**body["observation"]),
                streams_output=body.get("streams_output", ()),
                **{key: body[key] for key in Manifest.__slots__ if key not in _RENAMED},
            )
            again = manifest.encode()
        except (
            CBORDecodeError, Invalid, KeyError, IndexError, TypeError, ValueError, AttributeError,
            RecursionError,
        ) as error:  # fmt: skip
            raise Corrupt(f"manifest: {error}") from None
        if again != data:
            raise Corrupt("manifest: the encoding is not the canonical one")
        return manifest


_RENAMED = ("version", "objects", "observation", "streams_output")


class VerifiedRelease:
    """A release whose manifest a releaser signed. Only ``trust`` constructs it.

    ``digest`` is the BLAKE3 of the manifest's bytes: the identity of the release."""

    __slots__ = ("digest", "manifest")

    def __init__(self, manifest: Manifest, digest: bytes) -> None:
        self.manifest = manifest
        self.digest = digest

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def version(self) -> int:
        return self.manifest.version

    @property
    def path(self) -> str:
        return self.manifest.path

    def object(self, name: str) -> bytes:
        """The digest of one of :data:`OBJECTS`. Raises ``Corrupt`` where there is none of it."""
        if name not in self.manifest.objects:
            raise Corrupt(f"release {self.path}: it has no object {name!r}")
        return self.manifest.objects[name][0]

    def __repr__(self) -> str:
        return f"VerifiedRelease({self.path}, {self.digest.hex()[:12]})"


def joined_bytes(schemas: Iterable[Schema]) -> bytes:
    """The object :data:`JOINED`: schemas by stream, as deterministic CBOR."""
    from cbor2 import dumps

    ordered = sorted(schemas, key=lambda one: one.stream)
    return dumps([one.canonical_bytes for one in ordered], canonical=True)


def joined_schemas(data: bytes) -> list[Schema]:
    """The inverse. Raises ``Corrupt``."""
    from cbor2 import CBORDecodeError, loads

    from edgecore.schema import Schema

    try:
        schemas = [Schema.from_bytes(one) for one in loads(data)]
    except (CBORDecodeError, Invalid, TypeError, ValueError, RecursionError) as error:
        raise Corrupt(f"{JOINED_FILE}: {error}") from None
    if joined_bytes(schemas) != data or len({one.stream for one in schemas}) != len(schemas):
        raise Corrupt(f"{JOINED_FILE}: not what its schemas encode to")
    return schemas


class Bundle:
    """What training leaves for a releaser: a directory of the files of :data:`OBJECTS` and
    ``bundle.json``.

    :param objects: name in :data:`OBJECTS` -> bytes;
    :param golden_output: BLAKE3 of the int8 outputs for the golden inputs;
    :param observation: keyword arguments of :class:`Observation`;
    :param notes: anything worth keeping of the training; JSON values, never acted upon."""

    __slots__ = ("facts", "objects")

    def __init__(
        self,
        objects: Mapping[str, bytes],
        *,
        family: str,
        profile: str,
        ops: Iterable[str],
        arena_bytes: int,
        features: Iterable[bytes],
        score: str,
        golden_output: bytes,
        observation: Mapping[str, Any] | None = None,
        notes: Mapping[str, Any] | None = None,
    ) -> None:
        self.objects = dict(objects)
        self.facts: dict[str, Any] = {
            "version": 1,
            "family": family,
            "profile": profile,
            "ops": list(ops),
            "arena_bytes": arena_bytes,
            "features": [feature.hex() for feature in features],
            "score": score,
            "golden_output": golden_output.hex(),
            "observation": dict(observation or {}),
            "notes": dict(notes or {}),
        }
        self.manifest("check", 1)

    def manifest(
        self,
        name: str,
        version: int,
        *,
        minimum: int = 0,
        rollback: Iterable[int] = (),
        observation: Mapping[str, Any] | None = None,
        streams_output: Iterable[bytes] = (),
    ) -> Manifest:
        """The manifest of this bundle as release `name`/`version`; `observation` overrides the
        bundle's limits one by one; it names golden streams where `streams_output` has answers to
        them (:func:`edgecore.golden_making.complete`). Raises ``Invalid``. Whether devices can
        serve what it lists is :func:`edgecore.release_features.check_features`' to say, and signing
        asks it."""
        facts = self.facts
        answers = tuple(streams_output)
        named = {key: data for key, data in self.objects.items() if key != STREAMS or answers}
        return Manifest(
            family=facts["family"],
            name=name,
            version=version,
            objects={key: (blake3(data), len(data)) for key, data in named.items()},
            streams_output=answers,
            golden_output=bytes.fromhex(facts["golden_output"]),
            profile=facts["profile"],
            ops=facts["ops"],
            arena_bytes=facts["arena_bytes"],
            features=[bytes.fromhex(feature) for feature in facts["features"]],
            score=facts["score"],
            minimum=minimum,
            rollback=rollback,
            observation=Observation(**{**facts["observation"], **(observation or {})}),
        )

    def files(self) -> dict[str, bytes]:
        """File name -> bytes: what the directory holds."""
        import json

        text = json.dumps(self.facts, indent=1, sort_keys=True) + "\n"
        known = {**OBJECTS, **OPTIONAL}
        named = {known[key]: data for key, data in self.objects.items()}
        return {**named, FACTS_FILE: text.encode()}

    @staticmethod
    def from_files(files: Mapping[str, bytes]) -> Bundle:
        """The inverse of :meth:`files`. Raises ``Corrupt`` naming the file that is wrong."""
        import json

        missing = [name for name in (*OBJECTS.values(), FACTS_FILE) if name not in files]
        if missing:
            raise Corrupt(f"bundle: {', '.join(missing)} missing")
        try:
            facts = json.loads(files[FACTS_FILE])
            if facts.pop("version") != 1:
                raise Corrupt(f"{FACTS_FILE}: unknown version")
            facts["features"] = [bytes.fromhex(feature) for feature in facts["features"]]
            facts["golden_output"] = bytes.fromhex(facts["golden_output"])
            extra = {key: name for key, name in OPTIONAL.items() if name in files}
            known = {**OBJECTS, **extra}
            return Bundle({key: files[name] for key, name in known.items()}, **facts)
        except (ValueError, KeyError, TypeError, AttributeError, Invalid) as error:
            raise Corrupt(f"{FACTS_FILE}: {error}") from None


def _name(what: str, value: str) -> str:
    if not isinstance(value, str) or not 0 < len(value.encode()) <= NAME_BYTES_MAX:
        raise Invalid(f"manifest: {what} is text of 1 to {NAME_BYTES_MAX} bytes")
    if not all(char.isalnum() or char in "-_." for char in value) or not value.isascii():
        raise Invalid(f"manifest: {what} {value!r}: letters, digits, '-', '_' and '.'")
    return value


def _unsigned(what: str, value: int, least: int = 0) -> int:
    if type(value) is not int or not least <= value <= VERSION_MAX:
        raise Invalid(f"manifest: {what} is an integer from {least} to {VERSION_MAX}")
    return value


def _digest(what: str, value: bytes) -> bytes:
    if not isinstance(value, bytes) or len(value) != DIGEST_BYTES:
        raise Invalid(f"manifest: {what} is a digest of {DIGEST_BYTES} bytes")
    return value


__all__ = [
    "FACTS_FILE",
    "MANIFEST_BYTES_MAX",
    "OBJECTS",
    "OBJECT_BYTES_MAX",
    "Bundle",
    "Manifest",
    "Observation",
    "VerifiedRelease",
]
