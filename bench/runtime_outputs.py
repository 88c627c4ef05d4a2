"""What a field's runtime makes of rows, in whatever environment it is installed in.

    python bench/runtime_outputs.py MODULE RESOLVER MODEL INPUTS

MODULE is ``ai_edge_litert.interpreter`` or ``tflite_runtime.interpreter``; RESOLVER a name of its
``OpResolverType`` (``BUILTIN_REF``: the reference kernels). Outputs go to standard output, one row
after another.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy


def main() -> None:
    module, resolver, model, inputs = sys.argv[1:5]
    runtime = importlib.import_module(module)
    interpreter = runtime.Interpreter(
        model_content=Path(model).read_bytes(),
        experimental_op_resolver_type=runtime.OpResolverType[resolver],
        num_threads=1,
    )
    interpreter.allocate_tensors()
    source, target = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    rows = numpy.frombuffer(Path(inputs).read_bytes(), source["dtype"])
    for row in rows.reshape(-1, *source["shape"]):
        interpreter.set_tensor(source["index"], row)
        interpreter.invoke()
        sys.stdout.buffer.write(interpreter.get_tensor(target["index"]).tobytes())


if __name__ == "__main__":
    main()
