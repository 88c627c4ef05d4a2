"""The hand-written stubs of the compiled core are true: the same names, arguments and types as the
module says of itself. The comparison is seen to fail on planted lies."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from types import GetSetDescriptorType, MemberDescriptorType, ModuleType

import pytest

STUBS = Path(__file__).resolve().parent.parent / "python" / "edgecore" / "_core"
ROOMS = sorted(path.stem for path in STUBS.glob("*.pyi") if path.stem != "__init__")
# What pybind11 says in a signature that is certain enough to compare; the rest it calls object.
SIMPLE = {"int", "float", "bool", "str", "bytes", "None"}
WIDER = {"SupportsInt": "int", "SupportsFloat": "float", "typing.SupportsInt": "int"}


class Callable_:
    """Argument names (without self), which have defaults, and the plain types by name."""

    def __init__(self, names: list[str], defaults: set[str], types: dict[str, str]) -> None:
        self.names, self.defaults, self.types = names, defaults, types


def stub_callable(node: ast.FunctionDef) -> Callable_:
    args = [arg for arg in (*node.args.posonlyargs, *node.args.args) if arg.arg != "self"]
    count = len(node.args.defaults)
    defaults = {arg.arg for arg in args[len(args) - count :]} if count else set()
    for keyword, default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True):
        args.append(keyword)
        if default is not None:
            defaults.add(keyword.arg)
    types = {arg.arg: ast.unparse(arg.annotation) for arg in args if arg.annotation}
    types["return"] = ast.unparse(node.returns) if node.returns else ""
    return Callable_([arg.arg for arg in args], defaults, types)


def split_arguments(text: str) -> list[str]:
    """At commas outside of brackets and quotes."""
    parts, depth, current = [], 0, ""
    for char in text:
        depth += (char in "([{") - (char in ")]}")
        if char == "," and depth == 0:
            parts.append(current.strip())
            current = ""
        else:
            current += char
    return [*parts, current.strip()] if current.strip() else parts


def core_callable(doc: str, name: str) -> Callable_ | None:
    """From the signature that pybind11 puts first in a docstring; None when there is none."""
    found = re.match(rf"{re.escape(name)}\((.*)\) -> (.*)", doc.splitlines()[0] if doc else "")
    if not found:
        return None
    names, defaults, types = [], set(), {}
    for part in split_arguments(found.group(1)):
        left, equals, _ = part.partition(" = ")
        argument, _, annotation = left.partition(":")
        argument = argument.strip()
        if argument in ("self", "/", "*"):
            continue
        names.append(argument)
        types[argument] = plain(annotation)
        if equals:
            defaults.add(argument)
    types["return"] = plain(found.group(2))
    return Callable_(names, defaults, types)


def plain(annotation: str) -> str:
    """`typing.SupportsInt | typing.SupportsIndex` is how pybind11 calls what takes an int."""
    text = annotation.strip()
    for wide, narrow in (("SupportsInt", "int"), ("SupportsFloat", "float")):
        if wide in text and "[" not in text:
            return narrow
    return text


def compare_callable(where: str, stub: Callable_, core: Callable_ | None) -> Iterator[str]:
    if core is None or "*args" in core.names:
        return
    if stub.names != core.names and not all(n.startswith("arg") for n in core.names):
        yield f"{where}: arguments {stub.names}, the module has {core.names}"
        return
    if stub.defaults != core.defaults and stub.names == core.names:
        yield f"{where}: defaults of {sorted(stub.defaults ^ core.defaults)}"
    for name in [*core.names, "return"]:
        mine, theirs = stub.types.get(name, ""), core.types[name]
        if mine in SIMPLE and theirs in SIMPLE and mine != theirs:
            yield f"{where}: {name} is {mine}, the module says {theirs}"


def annotated(body: list[ast.stmt]) -> set[str]:
    return {
        item.target.id
        for item in body
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
    }


def members(body: list[ast.stmt]) -> dict[str, ast.FunctionDef | ast.ClassDef]:
    return {node.name: node for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef)}


def public(names: Iterator[str] | list[str]) -> set[str]:
    return {name for name in names if not name.startswith("_")}


def decorated(node: ast.FunctionDef, word: str) -> bool:
    return any(isinstance(item, ast.Name) and item.id == word for item in node.decorator_list)


def compare_class(where: str, stub: ast.ClassDef, core: type) -> Iterator[str]:
    mine = members(stub.body)
    theirs = public(list(vars(core)))
    for name in sorted((public(list(mine)) | annotated(stub.body)) ^ theirs):
        yield f"{where}.{name}: only in the {'stub' if name in mine else 'module'}"
    for name, node in mine.items():
        if not isinstance(node, ast.FunctionDef) or name in ("__enter__", "__exit__"):
            continue
        if name not in vars(core):
            if name.startswith("__") and name != "__init__":
                yield f"{where}.{name}: only in the stub"
            continue
        value = vars(core)[name]
        reads = isinstance(value, property | GetSetDescriptorType | MemberDescriptorType)
        if reads != decorated(node, "property"):
            yield f"{where}.{name}: a property on one side only"
        elif isinstance(value, property):
            if value.fget is not None:
                got = re.search(r"-> (.*)", value.fget.__doc__ or "")
                returns = Callable_([], set(), {"return": plain(got.group(1)) if got else ""})
                yield from compare_callable(f"{where}.{name}", stub_callable(node), returns)
        elif not reads:
            doc = getattr(core, name).__doc__ or ""
            yield from compare_callable(
                f"{where}.{name}", stub_callable(node), core_callable(doc, name)
            )


def differences(stub_text: str, module: ModuleType) -> Iterator[str]:
    body = ast.parse(stub_text).body
    stub = members(body)
    theirs = {
        name
        for name in public(list(vars(module)))
        if not isinstance(vars(module)[name], ModuleType)
    }
    for name in sorted((public(list(stub)) | annotated(body)) ^ theirs):
        yield f"{name}: only in the {'stub' if name in stub else 'module'}"
    for name in sorted(set(stub) & theirs):
        node, value = stub[name], vars(module)[name]
        if isinstance(node, ast.ClassDef):
            if isinstance(value, type):
                yield from compare_class(name, node, value)
            else:
                yield f"{name}: a class in the stub only"
        else:
            yield from compare_callable(
                name, stub_callable(node), core_callable(value.__doc__ or "", name)
            )


@pytest.mark.parametrize("room", ROOMS)
def test_stub_says_what_the_module_has(room: str) -> None:
    module = importlib.import_module("edgecore._core").__dict__[room]
    found = list(differences((STUBS / f"{room}.pyi").read_text(), module))
    assert not found, "\n".join(found)


def test_stub_every_room_of_the_module_has_one() -> None:
    core = importlib.import_module("edgecore._core")
    rooms = {name for name, value in vars(core).items() if isinstance(value, ModuleType)}
    assert rooms == set(ROOMS)


LIES = {
    "an argument's name": ("after: int, until: int", "since: int, until: int"),
    "an argument's type": ("def poll(self, now_ns: int)", "def poll(self, now_ns: str)"),
    "a result's type": ("def close(self) -> None", "def close(self) -> int"),
    "a method too few": ("    def close(self) -> None: ...\n", ""),
    "a method too many": ("def close(self)", "def shut(self) -> None: ...\n    def close(self)"),
    "a default too few": ('on_invalid: str = "raise"', "on_invalid: str"),
    "a property as a method": ("@property\n    def store_id", "def store_id"),
    "a class too many": ("class Scan:", "class Attic: ...\n\nclass Scan:"),
}


@pytest.mark.parametrize("lie", LIES)
def test_stub_planted_lie_is_seen(lie: str) -> None:
    from edgecore._core import log

    text = (STUBS / "log.pyi").read_text()
    old, new = LIES[lie]
    assert old in text
    assert not list(differences(text, log))
    assert list(differences(text.replace(old, new, 1), log))
