"""The fused path of an event: log, features, model input, model, verdict, and the prediction as an
event of the same log, with its lineage.

    pipeline = Pipeline(log, view, schema=telemetry)
    pipeline.set_role("active", load_release(release, store.get))
    pipeline.replay()                                 # after a restart: takes in what the log holds
    found = pipeline.process({"pump": "a", "temp": 20.1})
    found[0].verdict, found.score                     # one prediction per row; typed memoryviews

Roles: ``active`` serves; ``fallback`` is a warm standby that answers a row the active model fails,
or that is not fit for it; ``rule`` needs no model and answers what neither could; ``shadow`` is
recorded beside and serves nothing. A row of the source stream gets exactly one serving prediction,
at a later position of the same log. The stream belongs to its pipeline: rows appended to it by
other ways make ``process`` raise until ``replay()`` has taken them in. Rows of other streams that
the view reads come by anyone's appends, or by ``observe``: a row is answered with those before it.
"""

from __future__ import annotations

from edgecore._core import pipeline as _pipeline
from edgecore.digest import DIGEST_BYTES, blake3
from edgecore.errors import Corrupt, Incompatible, Invalid
from edgecore.inference import Binding, Model
from edgecore.schema import Schema
from edgecore.streams import CONTEXT, GAP, PREDICTION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from edgecore._core.log import Appended
    from edgecore.features import FeatureView
    from edgecore.log import Log
    from edgecore.release import VerifiedRelease

    Get = Callable[[bytes], bytes]

ROLES = ("active", "shadow", "fallback", "rule")
SERVING = ("active", "fallback", "rule")
NORMAL, ANOMALOUS, NOT_JUDGED = 0, 1, 2
RULE_LIMIT = 9.0  # mean square of the normalised features, where the rule begins to see an anomaly
MILLIONTHS = 1_000_000

Prediction = _pipeline.Prediction
Predictions = _pipeline.Predictions


class LocalModel:
    """What answers in a role: a model with all that its predictions depend on. Immutable.

    Made directly it is for development; a device runs what :func:`load_release` makes from a
    verified release.

    :param verdict: the verdict's bytes (docs/formats/verdict.md).
    :param score: ``reconstruction``, ``identity`` or ``argmax``.
    :param digest: of the release; of model, binding, verdict and score when there is none.
    """

    __slots__ = ("binding", "digest", "model", "name", "score", "trust", "verdict")

    def __init__(
        self,
        model: Model,
        binding: Binding,
        verdict: bytes,
        score: str = "reconstruction",
        *,
        name: str = "local",
        digest: bytes | None = None,
        trust: str = "local",
    ) -> None:
        self.model = model
        self.binding = binding
        self.verdict = bytes(verdict)
        self.score = score
        self.name = name
        self.trust = trust
        parts = (model.digest, blake3(binding.to_bytes()), blake3(self.verdict), score.encode())
        self.digest = blake3(b"".join(parts)) if digest is None else bytes(digest)
        if len(self.digest) != DIGEST_BYTES:
            raise Invalid(f"a release digest has {DIGEST_BYTES} bytes")


def load_release(release: VerifiedRelease, get: Get, *, backend: str = "auto") -> LocalModel:
    """A verified release as it serves here: its golden vectors were run on the backend that will.

    :param get: digest -> bytes, e.g. ``ArtifactStore.get``; what it gives is checked again.
    :raises Corrupt: an object is not the one that the manifest names.
    :raises Incompatible: this device computes other outputs, or can't serve the model.
    """

    def fetch(name: str) -> bytes:
        return checked(get, release.object(name), name)

    manifest = release.manifest
    model = Model.load(fetch("model"), backend=backend, profile=manifest.profile)
    model.check_golden(fetch("golden"), manifest.golden_output)
    binding = Binding.from_bytes(fetch("binding"))
    if tuple(slot.feature for slot in binding.slots) != manifest.features:
        raise Corrupt(f"release {release.path}: its binding reads other features than it says")
    return LocalModel(
        model,
        binding,
        fetch("verdict"),
        manifest.score,
        name=release.path,
        digest=release.digest,
        trust=manifest.trust,
    )


def checked(get: Get, digest: bytes, what: str) -> bytes:
    """The object of this digest. Raises ``Corrupt`` when `get` gives something else."""
    data = get(digest)
    if blake3(data) != digest:
        raise Corrupt(f"{what}: the bytes are not those of {digest.hex()}")
    return data


class Context:
    """A row of ``edgecore.context``: what the predictions that name it have in common."""

    __slots__ = ("body", "number", "position")

    def __init__(self, number: int, position: int, body: dict[str, Any]) -> None:
        self.number = number
        self.position = position
        self.body = body

    @property
    def role(self) -> str:
        return str(self.body["role"])

    @property
    def run(self) -> bytes:
        """Identity of the run: opens of the log that go on with it share it."""
        return run_of(self.body)


# What makes two contexts one run, so that the verdict goes on over a restart. The rest of a body
# (backend, ISA, store, epoch) says where and with what it was computed.
RUN_KEYS = (
    "at", "binding", "features", "joined", "limit", "model", "profile", "release", "role", "schema",
    "score", "since", "verdict", "view",
)  # fmt: skip


def run_of(body: dict[str, Any]) -> bytes:
    from cbor2 import dumps

    return blake3(dumps({key: body[key] for key in RUN_KEYS if key in body}, canonical=True))


def read_contexts(log: Log) -> list[Context]:
    """The contexts of a log, in order. Raises ``Corrupt`` for one that can't be read."""
    from cbor2 import CBORDecodeError, loads

    log.core.flush()
    out = []
    for number, position, body in _pipeline.contexts(log.core, CONTEXT.core):
        try:
            context = Context(number, position, loads(body))
            if context.role not in ROLES:
                raise Corrupt(f"context {number}: unknown role {context.role!r}")
            out.append(context)
        except (CBORDecodeError, KeyError, TypeError, ValueError) as error:
            raise Corrupt(f"context {number}: {error}") from None
    return out


class Pipeline:
    """One stream's path. Thread-safe; calls that wait release the GIL.

    :param view: the features; its ``source`` is the stream of `schema`.
    :param joined: schemas of the other streams that it reads; by default as the log has them.
    :raises Incompatible: the view needs what the schema or this build has not.
    """

    #: ``process(rows, on_invalid="raise") -> Predictions`` appends rows of the source stream and
    #: answers each of them, in order.
    #:
    #: `rows`: a dict, a list of dicts, a numpy structured array, Arrow data or a ``Batch``.
    #: ``Predictions``: ``len()``, ``[i]``, columns ``position as_of score threshold verdict episode
    #: clipped substituted context`` as typed memoryviews (score and threshold f64, NaN where not
    #: judged), ``reason`` (texts: which roles did not answer and why, e.g. ``"active:stale"``; None
    #: where the first did), ``shadow``, ``rejected``, and ``recorded``: False when the log took the
    #: rows and then no more; their predictions wait and go first next time. Empty while no role
    #: serves.
    #:
    #: Raises ``Invalid``: a row that is not the schema's (nothing was taken, unless
    #: ``on_invalid="skip"``), or rows that came around the pipeline: call :meth:`replay`;
    #: ``Exhausted``: the disk is full, nothing was taken.
    process: Callable[..., Predictions]

    def __init__(
        self,
        log: Log,
        view: FeatureView,
        *,
        schema: Schema,
        joined: Iterable[Schema] | None = None,
    ) -> None:
        if joined is None:
            joined = [log.schema(stream) for stream in sorted(view.joins) if _knows(log, stream)]
        self.joined = tuple(sorted(joined, key=lambda one: one.stream))
        plans = view.plans(schema, self.joined)
        for one in (schema, *self.joined, CONTEXT, PREDICTION, GAP):
            log.register(one)
        self.log = log
        self.view = view
        self.schema = schema
        self._contexts = read_contexts(log)
        self._specs: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}
        self._replayed = log.next_sequence(log.register(schema)) == 1
        serving = [one.number for one in self._contexts if one.role in SERVING]
        self._core = _pipeline.Pipeline(
            log.core, plans, schema.core, PREDICTION.core, serving, GAP.core
        )
        self.process = self._core.process

    # ------------------------------------------------------------ roles

    def set_role(self, role: str, release: LocalModel, *, warm_after: int | None = None) -> Context:
        """Puts `release` in a role, from the next row on; returns the context of its predictions.

        A run that the log's last context of this role names goes on: after a restart the verdict
        is what it was (by :meth:`restore` or :meth:`replay`). Else the verdict begins anew, or,
        with `warm_after`, has seen the rows at positions above it. Setting ``active`` also sets
        the built-in ``rule`` of the same release.

        :raises Incompatible: model, binding and view don't fit together; the old role stays.
        """
        if role not in ROLES:
            raise Invalid(f"role {role!r}: one of {', '.join(ROLES)}")
        context = self._put(role, release, warm_after)
        if role == "active":
            self._put("rule", release, None)
        return context

    def clear_role(self, role: str) -> None:
        """Takes a role out of service."""
        self._core.clear_role(role)
        self._specs.pop(role, None)

    def _put(self, role: str, release: LocalModel, warm_after: int | None) -> Context:
        wanted = self._body(role, release)
        last = next((one for one in reversed(self._contexts) if one.role == role), None)
        if last is not None and all(last.body.get(key) == wanted.get(key) for key in _SAME):
            wanted["since"], wanted["at"] = last.body["since"], last.body["at"]
        else:
            wanted["at"] = self._now()
            wanted["since"] = wanted["at"] if warm_after is None else min(warm_after, wanted["at"])
        run = run_of(wanted)
        known = [one for one in self._contexts if one.run == run]
        number = max((one.number for one in self._contexts), default=0) + 1
        context = next((one for one in known if one.body == wanted), None)
        fresh = context is None
        if context is None:
            context = Context(number, 0, wanted)
        spec = self._spec(context, known, release, run)
        before = self._specs.get(role)
        self._core.set_role(role, spec)
        if fresh:
            try:
                self._record(context)
            except Exception:
                # No prediction may name a context that is not in the log.
                if before is None:
                    self._core.clear_role(role)
                else:
                    self._core.set_role(role, before[0])
                raise
        self._specs[role] = (spec, wanted)
        return context

    def _record(self, context: Context) -> None:
        from cbor2 import dumps

        row = {"context": context.number, "body": dumps(context.body, canonical=True)}
        context.position = self.log.append(CONTEXT.stream, row).position
        self._contexts.append(context)

    def _now(self) -> int:
        """The last row that is past: a role set now answers those behind it. Before replay() rows
        that lost their predictions to a crash are still to come."""
        if self._replayed:
            return self._core.position
        self.log.core.flush()
        serving = {one.number: one.position for one in self._contexts if one.role in SERVING}
        if not serving:
            return self.log.position
        last = _pipeline.last_served(self.log.core, PREDICTION.core, set(serving))
        return max(last, min(serving.values()))

    def _body(self, role: str, release: LocalModel) -> dict[str, Any]:
        said = release.model.describe()
        rule = role == "rule"
        return {
            "at": 0,
            "backend": "rule" if rule else str(said["backend"]),
            "binding": blake3(release.binding.to_bytes()),
            "epoch": self.log.epoch,
            "features": [slot.feature for slot in release.binding.slots],
            "isa": "" if rule else str(said["isa"]),
            "limit": int(RULE_LIMIT * MILLIONTHS) if rule else 0,
            "model": b"" if rule else release.model.digest,
            "profile": "" if rule else str(said["profile"]),
            "release": release.digest,
            "role": role,
            "schema": self.schema.fingerprint,
            "score": release.score,
            "since": 0,
            "store": self.log.store_id,
            "verdict": b"" if rule else blake3(release.verdict),
            "view": blake3(self.view.to_bytes()),
            **({"joined": [one.fingerprint for one in self.joined]} if self.joined else {}),
        }

    @staticmethod
    def _spec(
        context: Context, known: list[Context], release: LocalModel, run: bytes
    ) -> dict[str, Any]:
        return role_spec(
            context.body,
            release.model,
            release.binding,
            release.verdict,
            context=context.number,
            aliases=[one.number for one in known if one.number != context.number],
            run=run,
        )

    # ------------------------------------------------------------ rows

    def observe(self, stream: str, rows: Any) -> Appended:
        """Appends rows of another stream that the view reads, as :meth:`edgecore.Log.append` does,
        and takes them in without reading them from the log. Raises what that does."""
        from edgecore.feature_backfill import prepare

        schema = next((one for one in self.joined if one.stream == stream), None)
        if schema is None:
            raise Invalid(f"view {self.view.name!r} joins no stream {stream!r}")
        batch = prepare(schema, rows)
        done = self.log.append(stream, batch)
        if len(batch):
            self._core.observe(batch, done.position)
        return done

    def follow(self) -> None:
        """Takes in rows of other streams that the log holds; :meth:`process` does it by itself."""
        self._core.follow()

    def replay(self) -> int:
        """Takes in the rows that the log holds beyond :attr:`position`, and records predictions
        that a crash lost. Returns how many were recorded."""
        before = self._core.counters()["completed"]
        self._core.replay()
        self._replayed = True
        return self._core.counters()["completed"] - before

    def snapshot(self) -> bytes:
        """Features and verdicts at :attr:`position` (docs/formats/pipeline-snapshot.md). Waits
        until everything that it rests on is durable."""
        return self._core.snapshot()

    def restore(self, data: bytes) -> None:
        """After the roles are set and before :meth:`replay`, which is then short.

        :raises Corrupt: damaged. :raises Incompatible: of another store or view.
        :raises Stale: ahead of the log. Nothing has changed then; replay() does it all.
        """
        self._core.restore(data)

    @property
    def position(self) -> int:
        """Of the last source row taken in."""
        return self._core.position

    @property
    def met(self) -> int:
        """Of the last row of any stream that the features have met."""
        return self._core.met

    @property
    def counters(self) -> dict[str, int]:
        """``rows replayed completed by_fallback by_rule unanswered late feature_errors``, and
        ``refused_<role>``: rows that the role was asked for and that were not fit for it."""
        return self._core.counters()

    def take_set_aside(self) -> list[tuple[int, int, int, int, str]]:
        """Rows that the features did not count, since the last call, the newest 4,096 of each
        stream: (position, event time, by how much (ns), ``features.LATE`` or ``AHEAD``, stream)."""
        return self._core.take_set_aside()

    def role(self, name: str) -> RoleState | None:
        """How a role fares, or None when it is not set."""
        found = self._core.role(name)
        return None if found is None else RoleState(*found)


def _knows(log: Log, stream: str) -> bool:
    return any(name == stream for _, name, _ in log.partitions())


class RoleState:
    """``failures`` of the role's model since it was set, the last one's words, and whether it is
    ``retired``: a standby that failed once serves no more until it is set again."""

    __slots__ = ("context", "failure", "failures", "retired")

    def __init__(self, context: int, failures: int, retired: bool, failure: str) -> None:
        self.context = context
        self.failures = failures
        self.retired = retired
        self.failure = failure


_SAME = tuple(key for key in RUN_KEYS if key not in ("at", "since"))


def role_spec(
    body: dict[str, Any],
    model: Model | None,
    binding: Binding,
    verdict: bytes,
    *,
    context: int,
    aliases: list[int],
    run: bytes,
) -> dict[str, Any]:
    """What the core takes for a role, from a context's body and its objects."""
    rule = body["role"] == "rule"
    if not rule and model is None:
        raise Incompatible(f"role {body['role']}: no model")
    executor = None if rule or model is None else model.core or model.backend
    return {
        "context": context,
        "aliases": aliases,
        "run": run,
        "since": body["since"],
        "at": body["at"],
        "binding": binding.core,
        "executor": executor,
        "score": body["score"],
        "verdict": None if rule else verdict,
        "limit": body["limit"],
    }


__all__ = [
    "ANOMALOUS",
    "NORMAL",
    "NOT_JUDGED",
    "ROLES",
    "SERVING",
    "Context",
    "LocalModel",
    "Pipeline",
    "Prediction",
    "Predictions",
    "RoleState",
    "load_release",
    "read_contexts",
]
