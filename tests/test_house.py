"""The house rules, executable: which way imports point, how long things may be, what may be
loaded when. Every rule is a function from a tree to its breaches, and is seen to fail on a planted
breach below."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LINE_CHARS_MAX = 100
FUNCTION_LINES_MAX = 70
FILE_LINES_MAX = 500
TEST_FILE_LINES_MAX = 800
TOP_LEVEL = {
    "CHANGELOG.md", "CMakeLists.txt", "CMakePresets.json", "LICENSE", "README.md", "bench", "cpp",
    "dev", "docs", "pyproject.toml", "python", "tests",
}  # fmt: skip

# What a room of the core may include besides itself.
CPP_SEES = {
    "base": set(),
    "columns": {"base"},
    "log": {"base", "columns"},
    "features": {"base"},
    "artifacts": {"base"},
    "inference": {"base"},
    "learning": {"base"},
    "pipeline": {"base", "columns", "log", "features", "artifacts", "inference", "learning"},
    "bindings": {
        "base", "columns", "log", "features", "artifacts", "inference", "learning", "pipeline",
    },
}  # fmt: skip

BASIC = {"errors", "limits", "clock", "_core", "digest"}
VALUES = BASIC | {"schema", "release", "streams"}
FACES = {"columns", "corrections", "log", "log_keeping", "log_values", "cursor", "features",
         "feature_spec", "feature_kinds", "feature_view", "feature_backfill", "feature_parity",
         "feature_rules", "feature_gaps", "feature_toml", "feature_join", "feature_join_parity",
         "expressions", "units", "artifacts", "binding", "inference", "learning", "pipeline",
         "fs", "worker", "tflite_writer", "lineage", "release_features", "trees",
         "tree_sources", "golden_streams", "golden_making"}  # fmt: skip
PURE = {"wire", "trust", "rules"}
PY_SEES = {
    "errors": set(),
    "limits": set(),
    "clock": {"_core"},
    "digest": {"_core"},
    "fs": BASIC,
    "worker": BASIC,
    "schema": BASIC,
    "release": BASIC | {"schema"},
    "streams": BASIC | {"schema"},
    **dict.fromkeys(FACES - {"fs", "worker"}, VALUES | FACES),
    "wire": VALUES,
    "trust": VALUES | {"wire"},
    "rules": VALUES | {"wire"},
    "device": VALUES | FACES | PURE,
    "hub": VALUES | FACES | PURE,
    "sim": VALUES | FACES | PURE | {"device", "hub"},
    "cli": VALUES | FACES | PURE | {"device", "hub", "sim"},
}
PURE_MAY_LOAD = {
    "wire": {"cbor2"},
    "trust": {"cbor2", "cryptography", "tuf", "securesystemslib"},
    "rules": set(),
}
NEVER_AT_IMPORT = {"numpy", "asyncio", "flatbuffers"}
IMPURE = {"os", "io", "socket", "time", "random", "subprocess", "threading", "pathlib", "http",
          "urllib", "select", "tempfile", "shutil", "sqlite3", "secrets"}  # fmt: skip


def files(root: Path, *patterns: str) -> Iterator[Path]:
    for pattern in patterns:
        for path in sorted(root.glob(pattern)):
            if path.is_file() and "__pycache__" not in path.parts:
                yield path


def sources(root: Path) -> Iterator[Path]:
    yield from files(root, "cpp/**/*.cpp", "cpp/**/*.hpp", "bench/**/*.cpp", "bench/**/*.hpp")
    yield from files(root, "python/**/*.py", "python/**/*.pyi", "tests/**/*.py", "bench/**/*.py")
    yield from files(root, "dev")


def name_of(root: Path, path: Path) -> str:
    return str(path.relative_to(root))


# ---------------------------------------------------------------- the rules


def long_lines(root: Path) -> Iterator[str]:
    for path in sources(root):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if len(line) > LINE_CHARS_MAX:
                yield f"{name_of(root, path)}:{number}: {len(line)} characters"


def long_files(root: Path) -> Iterator[str]:
    for path in sources(root):
        is_test = "tests" in path.relative_to(root).parts
        limit = TEST_FILE_LINES_MAX if is_test else FILE_LINES_MAX
        count = len(path.read_text().splitlines())
        if count > limit:
            yield f"{name_of(root, path)}: {count} lines of at most {limit}"


def long_functions(root: Path) -> Iterator[str]:
    for path in files(root, "python/**/*.py", "tests/**/*.py", "bench/**/*.py", "dev"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                count = (node.end_lineno or node.lineno) - node.lineno + 1
                if count > FUNCTION_LINES_MAX:
                    yield f"{name_of(root, path)}: {node.name} has {count} lines"
    # A C++ function body at namespace or class level opens and closes at the same indent.
    opening = re.compile(r"^( {0,4})\S.*[)\w] (?:const |noexcept |override |final )*\{$")
    not_function = re.compile(r"^ *(namespace|class|struct|enum|union|extern|switch|else|do)\b")
    for path in files(root, "cpp/**/*.cpp", "cpp/**/*.hpp", "bench/**/*.cpp"):
        lines = path.read_text().splitlines()
        for start, line in enumerate(lines):
            found = opening.match(line)
            if not found or not_function.match(line):
                continue
            indent = found.group(1)
            for end in range(start + 1, len(lines)):
                if lines[end].startswith(f"{indent}}}"):
                    if end - start + 1 > FUNCTION_LINES_MAX:
                        yield f"{name_of(root, path)}:{start + 1}: {end - start + 1} lines"
                    break


def cpp_arrows(root: Path) -> Iterator[str]:
    include = re.compile(r'^#include [<"]([^">]+)[">]', re.M)
    third_party = re.compile(r"^(pybind11/|Python\.h|gtest|gmock|boost/|flatbuffers/|zstd|openssl)")
    for room, sees in CPP_SEES.items():
        for path in files(root, f"cpp/{room}/**/*.cpp", f"cpp/{room}/**/*.hpp"):
            for target in include.findall(path.read_text()):
                other = target.split("/")[0]
                if other in CPP_SEES and other != room and other not in sees:
                    yield f"{name_of(root, path)}: {room} may not see {other}"
                if third_party.match(target) and room != "bindings":
                    yield f"{name_of(root, path)}: {target} outside bindings/"


def imported(tree: ast.AST) -> Iterator[tuple[ast.stmt, str]]:
    """Absolute names of everything a module imports, anywhere in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node, alias.name
        elif isinstance(node, ast.ImportFrom) and node.module:
            if node.module == "edgecore":
                for alias in node.names:
                    yield node, f"edgecore.{alias.name}"
            else:
                yield node, node.module


def room_of(root: Path, path: Path) -> str:
    part = path.relative_to(root / "python" / "edgecore").parts[0]
    return part.removesuffix(".py").removesuffix(".pyi")


def python_arrows(root: Path) -> Iterator[str]:
    for path in files(root, "python/edgecore/**/*.py"):
        room = room_of(root, path)
        if room == "__init__":
            continue
        sees = PY_SEES.get(room)
        if sees is None:
            yield f"{name_of(root, path)}: a room that the house does not know"
            continue
        for _, target in imported(ast.parse(path.read_text())):
            parts = target.split(".")
            if parts[0] != "edgecore" or len(parts) < 2:
                continue
            if parts[1] != room and parts[1] not in sees:
                yield f"{name_of(root, path)}: {room} may not see {parts[1]}"


def impure_rooms(root: Path) -> Iterator[str]:
    """wire, trust and rules take bytes and a time and give values: no I/O, no clock, no chance."""
    for room, allowed in PURE_MAY_LOAD.items():
        for path in files(root, f"python/edgecore/{room}/**/*.py"):
            tree = ast.parse(path.read_text())
            for _, target in imported(tree):
                first = target.split(".")[0]
                third = first not in sys.stdlib_module_names and first != "edgecore"
                if first in IMPURE or (third and first not in allowed):
                    yield f"{name_of(root, path)}: {room} is pure and may not see {target}"
            for node in ast.walk(tree):
                call = node.func if isinstance(node, ast.Call) else None
                if isinstance(call, ast.Name) and call.id in ("open", "print", "input"):
                    yield f"{name_of(root, path)}: {room} is pure and may not call {call.id}"


def releases_made_elsewhere(root: Path) -> Iterator[str]:
    """A VerifiedRelease is made where signatures are checked, and nowhere else."""
    for path in files(root, "python/edgecore/**/*.py"):
        if room_of(root, path) == "trust":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if name == "VerifiedRelease":
                yield f"{name_of(root, path)}:{node.lineno}: only trust makes a VerifiedRelease"


def heavy_imports(root: Path) -> Iterator[str]:
    """Module-level imports of what costs a small board megabytes."""
    for path in files(root, "python/edgecore/**/*.py"):
        top: list[ast.stmt] = list(ast.parse(path.read_text()).body)
        for node in top:
            if isinstance(node, ast.Try):
                top += node.body
            if isinstance(node, ast.Import | ast.ImportFrom):
                for _, target in imported(node):
                    if target.split(".")[0] in NEVER_AT_IMPORT:
                        yield f"{name_of(root, path)}: imports {target} at load"


def numpy_in_bindings(root: Path) -> Iterator[str]:
    for path in files(root, "cpp/bindings/*.cpp", "cpp/bindings/*.hpp"):
        text = path.read_text()
        if "py::array" in text or "pybind11/numpy.h" in text:
            yield f"{name_of(root, path)}: arrays enter by the buffer protocol, not py::array"


def format_pages(root: Path) -> Iterator[str]:
    """Each format page names the code that implements it; a final one also its vectors."""
    for path in files(root, "docs/formats/*.md"):
        text = path.read_text()
        codes = re.findall(r"`((?:cpp|python)/[\w/.-]+\.(?:hpp|cpp|py))`", text)
        vectors = re.findall(r"`(docs/formats/vectors/[\w.-]+)`", text)
        if not codes:
            yield f"{name_of(root, path)}: names no header or module"
        if re.search(r"(?im)^status:.*\bfinal\b", text) and not vectors:
            yield f"{name_of(root, path)}: is final and names no vector file"
        if not re.search(r"(?im)^status:.*\b(final|first form)\b", text):
            yield f"{name_of(root, path)}: says neither `Status: final` nor `Status: first form`"
        for target in codes + vectors:
            if not (root / target).exists():
                yield f"{name_of(root, path)}: {target} does not exist"


def top_level(root: Path) -> Iterator[str]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=root, capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    for name in sorted({line.split("/")[0] for line in listed}):
        if name not in TOP_LEVEL and not name.startswith("."):
            yield f"{name}: not a name of the top level"


RULES: list[Callable[[Path], Iterator[str]]] = [
    long_lines,
    long_files,
    long_functions,
    cpp_arrows,
    python_arrows,
    impure_rooms,
    releases_made_elsewhere,
    heavy_imports,
    numpy_in_bindings,
    format_pages,
    top_level,
]

# One planted breach per rule (and per half of a rule): the rule, the file, what is written in it.
PLANTED = [
    (long_lines, "cpp/base/x.hpp", "// " + "x" * 98 + "\n"),
    (long_files, "python/edgecore/x.py", "x = 1\n" * 501),
    (long_functions, "python/edgecore/x.py", "def f():\n" + "    x = 1\n" * 70),
    (long_functions, "cpp/log/x.cpp", "int f(int x) {\n" + "  ++x;\n" * 70 + "}\n"),
    (cpp_arrows, "cpp/features/x.hpp", '#include "log/log.hpp"\n'),
    (cpp_arrows, "cpp/base/x.hpp", "#include <pybind11/pybind11.h>\n"),
    (python_arrows, "python/edgecore/hub/x.py", "from edgecore.device import agent\n"),
    (python_arrows, "python/edgecore/wire/x.py", "def f():\n    from edgecore import log\n"),
    (python_arrows, "python/edgecore/attic/x.py", "x = 1\n"),
    (impure_rooms, "python/edgecore/rules/x.py", "import time\n"),
    (impure_rooms, "python/edgecore/trust/x.py", "import requests\n"),
    (impure_rooms, "python/edgecore/wire/x.py", "def f():\n    return open('x')\n"),
    (releases_made_elsewhere, "python/edgecore/device/x.py", "r = VerifiedRelease(m, b'')\n"),
    (releases_made_elsewhere, "python/edgecore/x.py", "r = release.VerifiedRelease(m, b'')\n"),
    (heavy_imports, "python/edgecore/x.py", "import numpy as np\n"),
    (
        heavy_imports,
        "python/edgecore/x.py",
        "try:\n    import asyncio\nexcept OSError:\n    pass\n",
    ),
    (numpy_in_bindings, "cpp/bindings/x.cpp", "void f(py::array_t<double> x);\n"),
    (format_pages, "docs/formats/x.md", "Status: final\n`cpp/base/gone.hpp`\n"),
    (format_pages, "docs/formats/x.md", "a page\n"),
    (top_level, "attic.txt", "x\n"),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_house_rule_holds(rule: Callable[[Path], Iterator[str]]) -> None:
    breaches = list(rule(ROOT))
    assert not breaches, "\n".join(breaches)


@pytest.mark.parametrize(
    ("rule", "path", "text"), PLANTED, ids=[f"{p[0].__name__}-{i}" for i, p in enumerate(PLANTED)]
)
def test_house_rule_sees_a_planted_breach(
    tmp_path: Path, rule: Callable[[Path], Iterator[str]], path: str, text: str
) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    target = tmp_path / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)
    assert list(rule(tmp_path))


def test_house_every_rule_has_a_planted_breach() -> None:
    assert {rule.__name__ for rule in RULES} == {planted[0].__name__ for planted in PLANTED}
