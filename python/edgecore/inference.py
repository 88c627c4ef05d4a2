"""Models: int8 networks behind one face. What they are given is made by :mod:`edgecore.binding`.

A model is a standard ``.tflite`` file. The native executor serves the operators of small networks,
to the bit as the field's reference kernels compute them (docs/numerics.md; the *profile*,
``litert-single`` or ``tflite-double``, says which ones); whatever it does not serve goes to an
installed runtime. Profile, backend and ISA are part of a prediction's lineage, because outputs
differ between runtimes.
"""

from __future__ import annotations

from edgecore._core import inference as _inference
from edgecore.binding import KINDS, Binding, Slot
from edgecore.digest import blake3
from edgecore.errors import Corrupt, Incompatible, Invalid, Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
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
FOREIGN = {"litert-single": "litert", "tflite-double": "tflite"}  # whose rounding a profile is
PACKAGES = {"litert": "ai_edge_litert", "tflite": "tflite_runtime"}
TRIAL_SECONDS = 20.0
FILTERS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
RUNS_ON = {
    "native": "every operator by the core",
    "litert": "LiteRT on the CPU; what its XNNPACK delegate takes by that",
    "tflite-runtime": "every operator by the reference kernels of tflite-runtime",
}
_COST = ("op", "shape", "products", "packed_bytes")


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
        golden: bytes | None = None,
        backend: str = "auto",
        profile: str = "litert-single",
        isa: str = "best",
    ) -> Model:
        """Verifies and opens a ``.tflite`` file.

        :param manifest: a release manifest; its model digest and its profile then hold.
        :param golden: the release's golden inputs, int8 rows; the backend that will serve must
            give outputs of the manifest's ``golden_output`` for them.
        :param backend: ``native`` (the core), ``litert`` (its C library, by the installed package
            ai-edge-litert), ``tflite`` (tflite-runtime, in Python: the pipeline's slow road), or
            ``auto``: native where it serves the model's operators, else the profile's runtime.
            Foreign loaders crash on some malformed files, so they try them in a child first.
        :param isa: kernel of the native backend: ``best`` of this processor, ``portable``,
            ``avx2``, ``avx512-vnni``, ``neon-dot`` or ``neon``.
        :raises Corrupt: malformed bytes, or not those that the manifest names.
        :raises Incompatible: an operator, type, profile or ISA that is not served here.
        :raises Unavailable: a runtime that was asked for is not installed, or does not run here.
        """
        if backend not in BACKENDS:
            raise Invalid(f"backend {backend!r}: one of {', '.join(BACKENDS)}")
        digest = blake3(artifact)
        expected = None
        if manifest is not None:
            profile = str(manifest.get("profile", profile))
            expected = manifest.get("golden_output")
            named = _model_digest(manifest)
            if named is not None and named != digest:
                raise Corrupt(f"model: its digest is {digest.hex()}, not {named.hex()}")
        if profile not in PROFILES:
            raise Incompatible(f"profile {profile!r}: this build serves {', '.join(PROFILES)}")
        model = Model(_open(artifact, backend, profile, isa), digest)
        if golden is not None:
            if not isinstance(expected, bytes):
                raise Invalid("golden inputs need a manifest with golden_output")
            model.check_golden(golden, expected)
        return model

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
        """Values of one input row."""
        return self._backend.input_size

    @property
    def output_size(self) -> int:
        """Values of one output row."""
        return self._backend.output_size

    @property
    def dtypes(self) -> tuple[str, str]:
        """Of input and output: ``int8`` or ``float32``. A pipeline serves models of int8."""
        return getattr(self._backend, "dtypes", ("int8", "int8"))

    @property
    def input_quantisation(self) -> tuple[float, int]:
        """(scale, zero point): real = scale * (code - zero point)."""
        return self._backend.input_quantisation

    @property
    def output_quantisation(self) -> tuple[float, int]:
        """(scale, zero point): real = scale * (code - zero point)."""
        return self._backend.output_quantisation

    def run(self, input: Buffer) -> bytes:
        """One row: ``input_size`` int8 codes -> ``output_size`` int8 codes; of a model in f32, the
        bytes of its values.

        :raises Invalid: when the buffer has another size.
        """
        return self._backend.run(input)

    def run_batch(self, input: Buffer, rows: int) -> bytes:
        """Rows one after another: the same bytes as row by row. Raises ``Invalid`` as run()."""
        return self._backend.run_batch(input, rows)

    def describe(self) -> dict[str, object]:
        """What runs, where, and what it costs.

        ``backend``, ``isa``, ``profile``, ``runs_on`` (in words), ``ops`` (each once), ``digest``
        (hex), ``arena_bytes`` (activations, at most), ``operators`` in the order in which they run:
        ``op``, ``shape`` of its output, ``products`` (multiplications of one row), ``packed_bytes``
        (weights and tables as a kernel reads them). ``multiply_adds`` are the products of filters
        and fully connected layers, ``packed_bytes`` the sum. A foreign runtime tells of no
        operators, and its arena is its own.
        """
        said = self._backend.describe()
        costs: Any = said.pop("costs", [])
        operators = [dict(zip(_COST, cost, strict=True)) for cost in costs]
        return said | {
            "arena_bytes": self._backend.arena_bytes,
            "digest": self.digest.hex(),
            "multiply_adds": sum(one["products"] for one in operators if one["op"] in FILTERS),
            "operators": operators,
            "packed_bytes": sum(one["packed_bytes"] for one in operators),
            "runs_on": RUNS_ON.get(str(said["backend"]), str(said["backend"])),
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


def _open(artifact: bytes, backend: str, profile: str, isa: str) -> Backend:
    if backend in ("auto", "native"):
        try:
            return _inference.load_native(artifact, profile, isa)
        except Incompatible as error:
            if backend == "native" or isa != "best":
                raise
            refused = error
        backend = FOREIGN[profile]
        if _installed(backend) is None:
            raise Incompatible(f"{refused}; a runtime would: edgecore[{backend}]") from None
    return _load_foreign(artifact, backend, profile)


def _installed(backend: str) -> str | None:
    """Directory of the package behind a foreign backend; None when it is not installed."""
    from importlib.util import find_spec

    try:
        spec = find_spec(PACKAGES[backend])
    except (ImportError, ValueError):
        return None
    places = list(spec.submodule_search_locations or ()) if spec is not None else []
    return places[0] if places else None


def _load_foreign(artifact: bytes, backend: str, profile: str) -> Backend:
    if FOREIGN[profile] != backend:
        raise Incompatible(f"backend {backend!r} does not round as profile {profile!r}")
    place = _installed(backend)
    if place is None:
        package = PACKAGES[backend].replace("_", "-")
        raise Unavailable(f"backend {backend!r} needs {package}: install edgecore[{backend}]")
    where = f"{place}/libLiteRt.so" if backend == "litert" else f"{PACKAGES[backend]}.interpreter"
    from edgecore.worker import Crashed, run_in_child

    payload = where.encode() + b"\0" + artifact
    try:
        run_in_child(f"{__name__}:_try_foreign", payload, seconds=TRIAL_SECONDS)
    except Crashed as error:
        raise Corrupt(f"model: its runtime does not survive it ({error})") from None
    return _open_foreign(artifact, where)


def _open_foreign(artifact: bytes, where: str) -> Backend:
    if where.endswith(".so"):
        return _inference.load_litert(artifact, where)
    return Interpreter(artifact, where)


def _try_foreign(payload: bytes) -> bytes:
    """In a child: loads and runs once, so that what crashes the runtime crashes only the child."""
    where, artifact = payload.split(b"\0", 1)
    backend = _open_foreign(artifact, where.decode())
    return backend.run(bytes(backend.input_size))


class Interpreter:
    """A Backend over the ``Interpreter`` of tflite-runtime, with its reference kernels, which
    alone round as the profile says. Needs numpy; one call at a time.

    :param module: the runtime's module; ``tflite_runtime.interpreter`` unless given.
    """

    arena_bytes = 0

    def __init__(self, artifact: bytes, module: str = "tflite_runtime.interpreter") -> None:
        from importlib import import_module
        from threading import Lock

        try:
            runtime = import_module(module)
            self._interpreter = runtime.Interpreter(
                model_content=artifact,
                experimental_op_resolver_type=runtime.OpResolverType.BUILTIN_REF,
                num_threads=1,
            )
            self._interpreter.allocate_tensors()
        except (ImportError, AttributeError, SystemError) as error:
            # It imports beside numpy 2, for which it was not built, and fails when it is used.
            raise Unavailable(_without_numpy(error)) from None
        except (ValueError, RuntimeError, TypeError) as error:
            raise Incompatible(f"tflite: {error}") from None
        inputs = self._interpreter.get_input_details()
        outputs = self._interpreter.get_output_details()
        if len(inputs) != 1 or len(outputs) != 1:
            raise Incompatible("tflite: a model with one input and one output is served")
        self._input, self._output = inputs[0], outputs[0]
        for end in (self._input, self._output):
            if end["dtype"].__name__ != "int8":
                raise Incompatible("tflite: the model's input and output are not int8")
        self._lock = Lock()
        self.input_size = int(self._input["shape"].prod())
        self.output_size = int(self._output["shape"].prod())
        self.input_quantisation = _pair(self._input["quantization"])
        self.output_quantisation = _pair(self._output["quantization"])

    def describe(self) -> dict[str, object]:
        return {"backend": "tflite-runtime", "isa": "", "profile": "tflite-double", "ops": []}

    def run(self, input: Buffer) -> bytes:
        return self.run_batch(input, 1)

    def run_batch(self, input: Buffer, rows: int) -> bytes:
        from numpy import frombuffer

        table = frombuffer(memoryview(input), self._input["dtype"])
        if table.size != rows * self.input_size:
            raise Invalid(
                f"model input: {rows} rows of {self.input_size} int8 values are needed, "
                f"got {table.size} bytes"
            )
        out = []
        with self._lock:
            for row in table.reshape(rows, *self._input["shape"]):
                self._interpreter.set_tensor(self._input["index"], row)
                self._interpreter.invoke()
                out.append(self._interpreter.get_tensor(self._output["index"]).tobytes())
        return b"".join(out)


def _without_numpy(error: Exception) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        numpy = f"numpy {version('numpy')}"
    except PackageNotFoundError:
        numpy = "no numpy"
    why = str(error).splitlines()
    return (
        f"tflite-runtime does not run beside {numpy} ({why[0] if why else type(error).__name__}): "
        "install edgecore[tflite], which keeps numpy<2"
    )


def _pair(quantization: tuple[float, int]) -> tuple[float, int]:
    return float(quantization[0]), int(quantization[1])


def _model_digest(manifest: Mapping[str, Any]) -> bytes | None:
    """The digest of the object ``model``, the first of its [digest, length]."""
    entry = manifest.get("objects", {}).get("model")
    digest = entry[0] if isinstance(entry, list | tuple) and entry else None
    return digest if isinstance(digest, bytes) else None


def score(kind: str, normalised: Buffer, output: Buffer, quantisation: tuple[float, int]) -> int:
    """One number out of a model's output, in millionths (decimal(6)).

    :param kind: ``reconstruction`` (mean squared difference of `normalised`, f64, and the
        dequantised output), ``identity`` (the first output) or ``argmax``.
    :raises Incompatible: reconstruction over other sizes. :raises Invalid: an unknown kind.
    """
    return _inference.score(kind, normalised, output, quantisation)


__all__ = ["BACKENDS", "KINDS", "PROFILES", "Binding", "Model", "Slot", "score"]
