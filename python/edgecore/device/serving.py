"""What becomes of captured rows: they are logged, and answered by the release that serves.

One pipeline answers for the active release, and beside it for a release on trial that reads the
same features. A trial with features of its own has a second pipeline, which follows the log and
appends nothing but its own predictions. Before the first release rows are logged only; a pipeline
that comes later takes them in, so features and verdict are warm when it first answers.
"""

from __future__ import annotations

from edgecore.errors import EdgecoreError, Exhausted, Incompatible, Unavailable
from edgecore.streams import PREDICTION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from edgecore._core.rows import Batch
    from edgecore.device.gaps import Gaps
    from edgecore.features import FeatureView
    from edgecore.fs import Fs
    from edgecore.log import Log
    from edgecore.pipeline import LocalModel, Pipeline, Prediction, Predictions
    from edgecore.release import VerifiedRelease
    from edgecore.schema import Schema

    Roles = list[tuple[str, VerifiedRelease, "Loaded"]]

SNAPSHOT_BYTES_MAX = 1 << 28
ANOMALOUS, NOT_JUDGED = 1, 2
ROLES = ("active", "shadow", "fallback", "rule")


class Loaded:
    """A verified release, ready to answer, and the features that it reads."""

    __slots__ = ("model", "view")

    def __init__(self, model: LocalModel, view: FeatureView) -> None:
        self.model = model
        self.view = view


def load(
    release: VerifiedRelease,
    get: Callable[[bytes], bytes],
    schema: Schema | None,
    backend: str,
    further: Iterable[Schema] = (),
) -> Loaded:
    """The updater's loader: opens what a release holds and proves it with its golden vectors and
    streams, on the backend that will serve.

    :param further: other streams that this device has.

    Raises ``Incompatible`` for a release that this device's stream cannot feed, one whose features
    would mean something else here (it says which, and what differs), or one that this build cannot
    serve; ``Corrupt`` for an object that is not what the manifest names."""
    from edgecore import golden_streams
    from edgecore.features import FeatureView
    from edgecore.pipeline import checked, load_release
    from edgecore.release import STREAMS
    from edgecore.schema import Schema

    model = load_release(release, get, backend=backend)
    view = FeatureView.from_bytes(checked(get, release.object("view"), "view"))
    if schema is None or view.source != schema.stream:
        has = schema.stream if schema is not None else "none"
        raise Incompatible(f"{release.path} reads the stream {view.source}, this device has {has}")
    trained = Schema.from_bytes(checked(get, release.object("schema"), "schema"))
    joined = trained_joined(view, release, get)
    here = [one for one in further if one.stream in view.joins]
    if missing := view.joins - {one.stream for one in here}:
        raise Incompatible(f"{release.path} also reads the stream {min(missing)}, which this "
                           "device has not")  # fmt: skip
    view.require_same(trained, schema, release.manifest.features, joined, here)
    view.plans(schema, here)
    if STREAMS in release.manifest.objects:
        data = checked(get, release.object(STREAMS), STREAMS)
        golden_streams.check(model, view, [trained, *joined], data, release.manifest.streams_output)
    return Loaded(model, view)


def trained_joined(
    view: FeatureView, release: VerifiedRelease, get: Callable[[bytes], bytes]
) -> list[Schema]:
    """Schemas of other streams that the release was made for."""
    from edgecore.pipeline import checked
    from edgecore.release import joined_schemas

    return joined_schemas(checked(get, release.object("joined"), "joined")) if view.joins else []


class Serving:
    """Rows of the source into the log, and answers to them. For one thread.

    :param path: where the snapshot is kept that shortens a restart.
    :param gaps: tells which rows may be missing before those that come behind them are taken.
    ``error`` is what keeps a release from answering, if anything does."""

    def __init__(
        self, log: Log, schema: Schema | None, fs: Fs, path: str, gaps: Gaps | None = None
    ) -> None:
        self._log = log
        self._schema = schema
        self._gaps = gaps
        self._fs = fs
        self._path = path
        self._main: Pipeline | None = None
        self._side: Pipeline | None = None
        self._set: dict[str, bytes] = {}  # role -> digest of the release in it
        self._numbers: dict[str, int] = {}  # role -> its context
        self._observed = ""  # role of the release under observation
        self._failures = 0
        self._side_seen = 0
        self._kept_at = 0
        self._counts = {"served": 0, "shadow": 0, "anomalous": 0}
        self._last: Prediction | None = None
        self.error: EdgecoreError | None = None

    # ------------------------------------------------------------ roles

    def apply(self, roles: Roles, observed: bytes) -> tuple[int, int, int]:
        """Puts releases in their roles, from the next row on; returns what :meth:`process` does.

        A release that does not fit counts as an error against it and the others stand. Raises
        ``Exhausted`` and ``Unavailable``: to be called again then."""
        wanted = {role: (release, loaded) for role, release, loaded in roles}
        self._observed = next((r for r, release, _ in roles if release.digest == observed), "")
        self.error = None
        failed = 0
        for role in ("active", "shadow"):
            try:
                if role not in wanted:
                    self._clear(role)
                elif self._set.get(role) != wanted[role][0].digest:
                    self._put(role, *wanted[role])
            except (Exhausted, Unavailable):
                raise
            except EdgecoreError as error:
                self.error = error
                failed += role == self._observed
        return 0, 0, failed

    def _put(self, role: str, release: VerifiedRelease, loaded: Loaded) -> None:
        pipeline = self._pipeline_for(role, loaded.view)
        context = pipeline.set_role(role, loaded.model, warm_after=0)
        if role == "active":
            if pipeline is self._side:
                pipeline.clear_role("shadow")
                self._side = None
            if pipeline is not self._main:
                if self._main is None:
                    self._restore(pipeline)
                pipeline.replay()
                self._main = pipeline
        elif pipeline is not self._main:
            pipeline.replay()
            self._side, self._side_seen = pipeline, self._log.position
        if role == self._observed:
            self._failures = 0  # counted by the role from the moment that it is set
        self._set[role] = release.digest
        self._numbers[role] = context.number

    def _pipeline_for(self, role: str, view: FeatureView) -> Pipeline:
        """The pipeline of these features if there is one, else a new one."""
        from edgecore.pipeline import Pipeline

        assert self._schema is not None
        for known in (self._main, self._side):
            if known is not None and known.view.to_bytes() == view.to_bytes():
                return known
        return Pipeline(self._log, view, schema=self._schema)

    def _clear(self, role: str) -> None:
        if self._set.pop(role, None) is None:
            return
        if self._main is not None:
            self._main.clear_role(role)
            if role == "active":
                self._main.clear_role("rule")
        if role == "shadow":
            self._side = None

    def _restore(self, pipeline: Pipeline) -> None:
        """From the last snapshot, if it is this pipeline's; replaying the log does without it."""
        if not self._fs.exists(self._path):
            return
        try:
            pipeline.restore(self._fs.read_file(self._path, SNAPSHOT_BYTES_MAX))
        except EdgecoreError as error:
            self.error = error

    # ------------------------------------------------------------ rows

    def process(self, batch: Batch) -> tuple[int, int, int]:
        """Logs and answers rows; of the observed release: predictions judged, alarms, errors.

        Raises ``Exhausted`` or ``Unavailable``: nothing was taken then."""
        if self._main is None:
            self._take(batch, lambda rows: self._log.append(batch.schema.stream, rows))
            return 0, 0, 0
        return self._seen(self._take(batch, self._main.process))

    def predict(self, rows: Any) -> Predictions:
        """Logs rows of the source stream and returns their predictions. Raises ``Unavailable``
        before the first release."""
        if self._main is None:
            raise Unavailable("no release serves on this device yet")
        found: Predictions = self._take(rows, self._main.process)
        self._seen(found)
        return found

    def append(self, stream: str, rows: Any) -> Any:
        """Logs rows; those of the source stream are answered too."""
        if self._schema is None or stream != self._schema.stream:
            if self._main is not None and stream in self._main.view.joins:
                return self._main.observe(stream, rows)
            return self._log.append(stream, rows)
        if self._main is not None:
            return self.predict(rows)
        return self._take(rows, lambda taken: self._log.append(stream, taken))

    def _take(self, rows: Any, act: Callable[[Any], Any]) -> Any:
        """Rows of the source, behind the gaps that are known before them."""
        if self._gaps is None:
            return act(rows)
        done = act(self._gaps.before(rows))
        self._gaps.taken()
        return done

    def tell_losses(self) -> None:
        """Tells of rows of the source that went. Raises what the log does."""
        if self._gaps is not None:
            self._gaps.tell_losses()

    def _seen(self, found: Predictions) -> tuple[int, int, int]:
        self._counts["served"] += len(found)
        self._counts["shadow"] += len(found.shadow)
        self._counts["anomalous"] += list(found.verdict).count(ANOMALOUS)
        if len(found):
            self._last = found[len(found) - 1]
        if not found.recorded:
            self.error = Exhausted("the log is full: predictions wait in memory")
        if not self._observed:
            return 0, 0, 0
        if self._side is not None and self._observed == "shadow":
            verdicts = self._follow(self._side)
        else:
            judged = found.shadow if self._observed == "shadow" else found
            own = self._numbers.get(self._observed)
            verdicts = [
                verdict
                for verdict, context in zip(judged.verdict, judged.context, strict=True)
                if context == own
            ]
        alarms = verdicts.count(ANOMALOUS)
        return len(verdicts) - verdicts.count(NOT_JUDGED), alarms, self._new_failures()

    def _follow(self, side: Pipeline) -> list[int]:
        """Lets the second pipeline take in what the first has logged; its new verdicts."""
        side.replay()
        own, after = self._numbers["shadow"], self._side_seen
        self._side_seen = self._log.position
        return [
            int(row["verdict"])
            for scanned in self._log.scan(PREDICTION.stream, after=after)
            for row in scanned.rows()
            if row["context"] == own
        ]

    def _new_failures(self) -> int:
        """Runs of the observed release's model that failed since the last time."""
        pipeline = self._side if self._observed == "shadow" and self._side else self._main
        state = pipeline.role(self._observed) if pipeline is not None else None
        total = state.failures if state is not None else 0
        fresh, self._failures = max(0, total - self._failures), total
        return fresh

    def take_set_aside(self) -> tuple[str, list[tuple[int, int, int, int, str]]]:
        """The serving view's name, and the rows that it did not count since the last call."""
        if self._main is None:
            return "", []
        self._main.follow()  # a snapshot will, and what it leaves behind is told before
        return self._main.view.name, self._main.take_set_aside()

    # ------------------------------------------------------------ state

    def snapshot(self) -> None:
        """Keeps what a restart would else have to replay. Raises what the disk raises."""
        if self._main is None:
            return
        self._main.follow()  # rows of other streams may go, once they are older than this
        if self._main.met == self._kept_at:
            return
        data = self._main.snapshot()
        self._fs.write_atomic(self._path, data)
        self._kept_at = self._main.met

    def status(self) -> dict[str, Any]:
        counters = self._main.counters if self._main is not None else {}
        last = self._last
        return {
            **self._counts,
            "unanswered": counters.get("unanswered", 0),
            "refused": {role: counters.get(f"refused_{role}", 0) for role in ROLES},
            "by_rule": counters.get("by_rule", 0),
            "completed": counters.get("completed", 0),
            "late": counters.get("late", 0),
            "last": None if last is None else {
                name: getattr(last, name)
                for name in ("role", "position", "as_of", "score", "threshold", "verdict",
                             "episode", "context", "reason")
            },
        }  # fmt: skip


__all__ = ["Loaded", "Serving", "load"]
