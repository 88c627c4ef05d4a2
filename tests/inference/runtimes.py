"""The field's runtimes, and the native executor on every kernel of this machine, as tests ask them.
Imports neither edgecore nor pytest by itself: the environment of a runtime may have neither."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from typing import Any

ISAS = ("portable", "avx2", "avx512-vnni", "neon-dot", "neon")


def opened(runtime: str, data: bytes, resolver: str = "BUILTIN_REF") -> Any:
    """An interpreter of the package `runtime`, with its reference kernels unless told otherwise."""
    module = importlib.import_module(f"{runtime}.interpreter")
    interpreter = module.Interpreter(
        model_content=data,
        experimental_op_resolver_type=getattr(module.OpResolverType, resolver),
        num_threads=1,
    )
    interpreter.allocate_tensors()
    return interpreter


def row_bytes(interpreter: Any) -> int:
    import numpy

    source = interpreter.get_input_details()[0]
    return int(numpy.prod(source["shape"])) * numpy.dtype(source["dtype"]).itemsize


def answers(interpreter: Any, rows: Iterable[bytes]) -> list[bytes]:
    """The outputs, row by row."""
    import numpy

    source, target = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    out = []
    for row in rows:
        values = numpy.frombuffer(row, source["dtype"]).reshape(source["shape"])
        interpreter.set_tensor(source["index"], values)
        interpreter.invoke()
        out.append(interpreter.get_tensor(target["index"]).tobytes())
    return out


def litert(data: bytes, rows: bytes, resolver: str = "BUILTIN_REF") -> bytes:
    """All rows through LiteRT; skips where it is not installed."""
    import pytest

    pytest.importorskip("numpy")
    pytest.importorskip("ai_edge_litert.interpreter")
    interpreter = opened("ai_edge_litert", data, resolver)
    size = row_bytes(interpreter)
    assert len(rows) % size == 0
    return b"".join(
        answers(interpreter, (rows[at : at + size] for at in range(0, len(rows), size)))
    )


def served(data: bytes, profile: str = "litert-single") -> list[Any]:
    """The model natively on every kernel that this processor has; the portable one at least."""
    from edgecore.errors import Incompatible
    from edgecore.inference import Model

    found = []
    for isa in ISAS:
        try:
            found.append(Model.load(data, backend="native", profile=profile, isa=isa))
        except Incompatible:
            assert isa != "portable"
    return found
