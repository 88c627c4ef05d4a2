"""What `edgecore model inspect` says of a model: what runs it, and what each operator costs."""

from __future__ import annotations

from pathlib import Path

from edgecore.inference import Model

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

IDENTIFIER = b"TFL3"  # at byte 4 of a .tflite file
LINE = "{:>4}  {:<18} {:<16} {:>14} {:>14}"


def is_model(path: Path) -> bool:
    """Whether a file says that it is a model."""
    with path.open("rb") as file:
        return file.read(8)[4:] == IDENTIFIER


def described(data: bytes, profile: str = "litert-single") -> dict[str, Any]:
    """``Model.describe()`` of what would serve here, and its two ends. Raises as ``Model.load``."""
    model = Model.load(data, profile=profile)
    ends = {}
    for name, dtype, size, (scale, zero) in (
        ("input", model.dtypes[0], model.input_size, model.input_quantisation),
        ("output", model.dtypes[1], model.output_size, model.output_quantisation),
    ):
        ends[name] = {"dtype": dtype, "values": size}
        if dtype == "int8":
            ends[name] |= {"scale": scale, "zero_point": zero}
    return model.describe() | ends


def lines(facts: dict[str, Any]) -> list[str]:
    """`described` for people."""
    served = " ".join(filter(None, (facts["backend"], facts["isa"], facts["profile"])))
    out = [f"digest   {facts['digest']}", f"runs on  {facts['runs_on']}: {served}"]
    for name in ("input", "output"):
        end = facts[name]
        scale = f", scale {end['scale']:.6g}, zero {end['zero_point']}" if "scale" in end else ""
        out.append(f"{name:<8} {end['values']:,} {end['dtype']}{scale}")
    if not facts["operators"]:
        return out
    out += [
        f"work     {facts['multiply_adds']:,} multiply-adds a row",
        f"memory   {facts['packed_bytes']:,} bytes of packed weights and tables, "
        f"{facts['arena_bytes']:,} of activations at most",
        "",
        LINE.format("", "operator", "output", "products", "packed bytes"),
    ]
    for at, one in enumerate(facts["operators"]):
        shape = "x".join(map(str, one["shape"])) or "1"
        cost = (f"{one['products']:,}", f"{one['packed_bytes']:,}")
        out.append(LINE.format(at, one["op"], shape, *cost))
    return out
