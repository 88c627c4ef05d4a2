"""Runs in the environment of tflite-runtime: a pickled list of (file, rows, count, trial) on
standard input, a pickled list of (outputs, description) on standard output. `trial`: through
``Model.load``, so that a child tries the file first; else straight through its ``Interpreter``."""

from __future__ import annotations

import pickle
import sys

from edgecore.inference import Interpreter, Model


def main() -> None:
    answers = []
    for data, rows, count, trial in pickle.loads(sys.stdin.buffer.read()):
        runs = (
            Model.load(data, backend="tflite", profile="tflite-double")
            if trial
            else Interpreter(data)
        )
        answers.append((runs.run_batch(rows, count), runs.describe()))
    sys.stdout.buffer.write(pickle.dumps(answers))


if __name__ == "__main__":
    main()
