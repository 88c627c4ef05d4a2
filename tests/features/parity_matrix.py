"""The parity matrix: every operator's answers, on every path and in every build, to the bit.

    python tests/features/parity_matrix.py [--short] [--json]      --short: of what ./dev build made

Within a build: stream against batch, restore, cut (cpp/tests/features/parity_driver.cpp). Between
builds: the stream of gcc -O3 against -O0, -march=native, clang, and aarch64 under qemu. Last come
mutants of the sources, a libm call and sums that a compiler may contract to fused operations, which
the matrix must see. Exit 1 when a bit differs, or a mutant is not seen.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parents[2]
DRIVER = ROOT / "cpp" / "tests" / "features" / "parity_driver.cpp"
SYSROOT = "/usr/aarch64-linux-gnu"
QEMU = ("qemu-aarch64-static", "qemu-aarch64")
CROSS = "aarch64-linux-gnu-g++"
LEFT_OUT = {
    "fs",
    "fs_memory",
    "fs_memory_crash",
    "fs_posix",
    "flatbuffer",
    "tflite",
    "tflite_options",
}  # of base
CACHING = {**os.environ, "CCACHE_BASEDIR": str(ROOT), "CCACHE_NOHASHDIR": "1"}
ARCHIVE = ROOT / "build" / "dev" / "libedgecore_core.a"  # of ./dev build
PARTS = ("driver", "features", "base")
AGES_MIN = 100_000
LONG, SHORT = (6000, 20), (1500, 2)  # rows, runs

# name -> compiler, flags. The first is what the others are held against.
BUILDS: dict[str, tuple[str, list[str]]] = {
    "x86 -O3": ("g++", ["-O3"]),
    "x86 -O0": ("g++", ["-O0"]),
    "x86 -march=native": ("g++", ["-O3", "-march=native"]),
    "x86 clang -O3": ("clang++", ["-O3"]),
    "aarch64 -O3": (CROSS, ["-O3"]),
}
ARM = "aarch64 -O3"
# (file, text, what a careless hand would write instead); answer.cpp is built from the result.
NAIVE_STD = (
    "finish.hpp",
    "return std::sqrt(sample_variance(n, squares, sum));",
    """const double m = static_cast<double>(n);
  const double mean = static_cast<double>(sum.signed_value()) / m;
  const double square = static_cast<double>(static_cast<Int128>(squares.value())) / m;
  const double spread_ = square - mean * mean;
  return std::sqrt((spread_ < 0 ? 0 : spread_) * m / (m - 1));""",
)
LIBM_AGE = (
    "answer.cpp",
    "static_cast<double>(age) / kNsPerSecond",
    "__builtin_exp2(-static_cast<double>(age) / 60e9)",
)
CONTRACT = ["-ffp-contract=fast", "-mfma"]


class Failed(Exception):
    """A build or a run that did not succeed."""


def call(words: list[str | Path], given: IO[bytes] | None = None) -> bytes:
    """What a command prints; `given` is its input. Raises ``Failed``."""
    command = [str(word) for word in words]
    done = subprocess.run(command, capture_output=True, check=False, stdin=given)
    if done.returncode != 0:
        raise Failed(f"{words[0]}: {done.stderr.decode(errors='replace')[-2000:]}")
    return done.stdout


class Build:
    """The driver as one compiler makes it.

    :param parts: what is made here, of ``driver``, ``features``, ``base``; the rest is `like`'s, or
        the archive's. :param mutation: of the sources; only answer.cpp is made then."""

    def __init__(
        self,
        home: Path,
        name: str,
        compiler: str,
        flags: list[str],
        like: Build | None = None,
        mutation: tuple[str, str, str] | None = None,
        parts: tuple[str, ...] = PARTS,
    ) -> None:
        self.name = name
        work = home / name.replace(" ", "_").replace("=", "_")
        work.mkdir()
        self.binary = work / "parity_driver"
        self.runner: list[str] = []
        if compiler == CROSS:
            self.runner = [next(tool for tool in QEMU if shutil.which(tool)), "-L", SYSROOT]
        include = ROOT / "cpp"
        sources = [path for part in parts for path in sources_of(part)]
        if mutation is not None:
            include = work / "cpp"
            mutate(include, *mutation)
            sources = [include / "features" / "answer.cpp"]
        words = [compiler, "-std=c++20", "-ffp-contract=off", *flags]
        words += ["-I", str(include), "-I", str(ROOT / "cpp"), "-I", str(DRIVER.parent)]
        made = {f"{path.parent.name}_{path.stem}.o": path for path in sources}
        compile_all(words, {work / name: path for name, path in made.items()})
        self.objects = {name: work / name for name in made}
        if like is not None:
            self.objects = {**like.objects, **self.objects}
        self.whole: bool = like.whole if like is not None else "base" in parts
        archive = [] if self.whole else [ARCHIVE]
        call([compiler, *self.objects.values(), *archive, "-o", self.binary, "-lpthread", "-ldl"])

    def command(self, mode: str, size: tuple[int, int]) -> list[str]:
        return [*self.runner, str(self.binary), mode, *map(str, size)]

    def paths(self, size: tuple[int, int]) -> dict[str, dict[str, tuple[int, int]]]:
        """Path -> feature -> (differing bits, answers); and `ages`."""
        return table(call([*self.command("paths", size)]))

    def against(self, other: Build, size: tuple[int, int]) -> dict[str, tuple[int, int]]:
        """Feature -> (bits by which this build's stream differs from the other's, answers)."""
        with subprocess.Popen(other.command("write", size), stdout=subprocess.PIPE) as writer:
            found = call([*self.command("against", size)], writer.stdout)
        return table(found)["build"]


def sources_of(part: str) -> list[Path]:
    if part == "driver":
        return [DRIVER]
    return [
        path for path in sorted((ROOT / "cpp" / part).glob("*.cpp")) if path.stem not in LEFT_OUT
    ]


def compile_all(words: list[str], wanted: dict[Path, Path]) -> None:
    """Object -> source, as many at a time as there are processors."""
    cached = ["ccache"] if shutil.which("ccache") else []
    waiting = list(wanted.items())
    running: list[subprocess.Popen[bytes]] = []
    while waiting or running:
        while waiting and len(running) < (os.cpu_count() or 1):
            made, source = waiting.pop()
            command = [*cached, *words, "-c", str(source), "-o", str(made)]
            running.append(subprocess.Popen(command, stderr=subprocess.PIPE, env=CACHING))
        one = running.pop(0)
        _, told = one.communicate()
        if one.returncode != 0:
            for other in running:
                other.communicate()
            raise Failed(f"a build failed: {told.decode(errors='replace')[-2000:]}")


def mutate(home: Path, name: str, text: str, instead: str) -> None:
    """A copy of the features with one place changed."""
    shutil.copytree(ROOT / "cpp" / "features", home / "features")
    path = home / "features" / name
    before = path.read_text()
    if text not in before:
        raise Failed(f"{name}: the place to mutate is gone: {text}")
    path.write_text(before.replace(text, instead))


def table(output: bytes) -> dict[str, dict[str, tuple[int, int]]]:
    found: dict[str, dict[str, tuple[int, int]]] = {}
    for line in output.decode().splitlines():
        words = line.split()
        if words[0] == "ages":
            found["ages"] = {"": (int(words[1]), 0)}
        else:
            found.setdefault(words[0], {})[words[1]] = (int(words[2]), int(words[3]))
    return found


def bits(column: dict[str, tuple[int, int]]) -> int:
    return sum(differing for differing, _ in column.values())


def missing_tool(compiler: str) -> str:
    if shutil.which(compiler) is None:
        return f"{compiler} is not installed"
    if compiler == CROSS and not any(shutil.which(tool) for tool in QEMU):
        return "qemu-aarch64 is not installed"
    if compiler == "g++" and os.uname().machine != "x86_64":
        return f"this is {os.uname().machine}"
    return ""


class Run:
    """All columns of the matrix, as they come."""

    def __init__(self, home: Path, short: bool) -> None:
        self.home = home
        self.size = SHORT if short else LONG
        self.columns: dict[str, dict[str, tuple[int, int]]] = {}
        self.not_run: dict[str, str] = {}
        self.mutants: dict[str, int] = {}
        self.ages = 0
        wanted = ["x86 -O3", "x86 -O0"] if short else list(BUILDS)
        self.builds: dict[str, Build] = {}
        for name in wanted:
            compiler, flags = BUILDS[name]
            reason = missing_tool(compiler)
            if reason:
                self.not_run[name] = reason
                continue
            like = next(iter(self.builds.values()), None) if short else None
            parts = PARTS if not short else ("driver", "features") if like else ("driver",)
            self.builds[name] = Build(home, name, compiler, flags, like, parts=parts)
        if not self.builds:
            raise Failed("no build of the matrix can be made here")

    def measure(self) -> None:
        first = next(iter(self.builds.values()))
        for name, build in self.builds.items():
            found = build.paths(self.size)
            self.ages = max(self.ages, found.pop("ages")[""][0])
            for path, column in found.items():
                self.columns[f"{name}: {path}"] = column
            if build is not first:
                self.columns[f"{name}: stream of {first.name}"] = build.against(first, self.size)

    def plant(self) -> None:
        """Mutants, each against the same mutant in another build: they are to differ."""
        first = next(iter(self.builds.values()))
        libm = Build(self.home, "libm", "g++", ["-O2"], first, LIBM_AGE)
        self.mutants["a libm call, against the sources"] = bits(libm.against(first, self.size))
        plain = Build(self.home, "naive", "g++", ["-O2"], first, NAIVE_STD)
        fused = Build(self.home, "fused", "g++", ["-O2", *CONTRACT], first, NAIVE_STD)
        differing = bits(fused.against(plain, self.size))
        self.mutants["floating sums, contracted or not"] = differing
        if ARM in self.builds:
            other = Build(self.home, "libm arm", CROSS, ["-O2"], self.builds[ARM], LIBM_AGE)
            self.mutants["a libm call, x86 or aarch64"] = bits(other.against(libm, self.size))

    @property
    def good(self) -> bool:
        return not any(map(bits, self.columns.values())) and all(self.mutants.values())

    def facts(self) -> dict[str, object]:
        return {
            "rows": self.size[0] * self.size[1],
            "ages": self.ages,
            "differing": {
                name: {feature: found[0] for feature, found in column.items()}
                for name, column in self.columns.items()
            },
            "mutants": self.mutants,
            "not_run": self.not_run,
        }

    def show(self) -> None:
        features = list(next(iter(self.columns.values())))
        print(f"{self.size[0] * self.size[1]} rows, {self.ages} distinct ages, "
              f"{len(features)} features")  # fmt: skip
        for number, (name, column) in enumerate(self.columns.items(), 1):
            answers = sum(count for _, count in column.values())
            print(f"  [{number:>2}] {name:<40}{answers:>12} answers{bits(column):>6} bits differ")
        for name, reason in self.not_run.items():
            print(f"  NOT RUN {name}: {reason}")
        print(f"  {'differing bits per feature':<28}"
              + "".join(f"{f'[{n}]':>5}" for n in range(1, len(self.columns) + 1)))  # fmt: skip
        for feature in features:
            counts = "".join(f"{column[feature][0]:>5}" for column in self.columns.values())
            print(f"  {feature:<28}{counts}")
        for name, differing in self.mutants.items():
            print(f"  planted: {name}: {differing} bits differ{'' if differing else ': NOT SEEN'}")


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="two builds and few rows")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(words)
    home = ROOT / "build" / f"parity-{os.getpid()}"
    home.mkdir(parents=True)
    try:
        run = Run(home, options.short)
        run.measure()
        run.plant()
    except Failed as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(home)
    if options.json:
        print(json.dumps(run.facts()))
    else:
        run.show()
    if not options.short and run.ages < AGES_MIN:
        print(f"{run.ages} ages are fewer than {AGES_MIN}", file=sys.stderr)
        return 1
    return 0 if run.good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
