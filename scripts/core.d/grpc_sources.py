"""What of an unpacked release of grpcio is compiled, and which sources go together.

The list is the release's own, less what this package has no use for: BoringSSL (OpenSSL takes its
place), other systems' sources, and xDS and RLS, which the core's own switches leave out.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

LIST = "src/python/grpcio/grpc_core_dependencies.py"

# Those of them that a release has.
INCLUDES = [
    *("include", ".", "third_party/abseil-cpp", "third_party/address_sorting/include"),
    *("third_party/cares/cares/include", "third_party/cares", "third_party/cares/cares"),
    *("third_party/cares/config_linux", "third_party/cares/cares/src/lib"),
    "third_party/cares/cares/src/lib/include",
    *("third_party/re2", "third_party/upb", "third_party/utf8_range", "third_party/xxhash"),
    *("third_party/zlib", "src/core/ext/upb-generated", "src/core/ext/upbdefs-generated"),
    *("src/core/ext/upb-gen", "src/core/ext/upbdefs-gen"),
]

# Without GRPC_ENABLE_FORK_SUPPORT, as in the builds of distributions: gRPC's handlers of fork()
# would start threads in the child.
DEFINES = [
    *("NDEBUG", "HAVE_CONFIG_H=1", "__STDC_FORMAT_MACROS"),
    *("GRPC_NO_XDS=1", "GRPC_NO_RLS=1"),
    # The functions of the C API are all that a shared library can export.
    'GPRAPI=__attribute__((visibility("default")))',
]
ABSENT = {"GRPC_NO_XDS", "GRPC_NO_RLS"}

OTHER_SYSTEMS = re.compile(
    r"^src/.*(windows|win32|/iocp|win_socket|_cf_|cfstream|cf_engine|/apple|/ios_)"
)
XDS = re.compile(
    r"^src/.*(/xds/|/ext_proc/|/xds\.cc|/rls/|/xds_\w*\.cc|/rbac/|google_c2p|gcp_authentication|"
    r"file_watcher_certificate_provider_factory|certificate_provider_store)"
)
GENERATED = re.compile(r"^src/core/ext/(upb|upbdefs)-gen")
# How the definition of a message refers to those of the messages in it: by no header.
DEFINITION = re.compile(r"^extern \w+ (\w+)_proto_upbdefinit;", re.MULTILINE)


def listed(root: Path) -> list[str]:
    """The release's list, which is Python, but is not run."""
    for statement in ast.parse((root / LIST).read_text()).body:
        if isinstance(statement, ast.Assign) and statement.targets[0].id == "CORE_SOURCE_FILES":  # type: ignore[attr-defined]
            return list(ast.literal_eval(statement.value))
    raise ValueError(f"{LIST} has no CORE_SOURCE_FILES")


def include_folders(root: Path) -> list[str]:
    return [folder for folder in INCLUDES if (root / folder).is_dir()]


def included(file: Path) -> Iterator[str]:
    """What a source includes, less what stands in #ifndef of a switch that is on."""
    conditions: list[bool] = []
    for line in file.open(errors="replace"):
        if match := re.match(r"\s*#\s*(if\w*|endif)\b\s*(\w*)", line):
            if match[1] == "endif":
                del conditions[-1:]
            else:
                conditions.append(match[1] == "ifndef" and match[2] in ABSENT)
        elif not any(conditions) and (match := re.match(r'\s*#\s*include\s+"([^"]+)"', line)):
            yield match[1]


def stems(header: str) -> Iterator[str]:
    """The names of the sources, without extension, that may define what a header declares."""
    stem = header.rsplit(".", 1)[0]
    yield stem
    if stem.endswith(".upb"):
        yield stem + "_minitable"


def definition(source: str) -> str:
    """The name of a definition, as others refer to it."""
    path = re.sub(r"^src/core/ext/upbdefs-gen\w*/|\.upbdefs\.c$", "", source)
    return re.sub(r"\W", "_", path)


def needed(root: Path, sources: list[str]) -> set[str]:
    """Of generated sources those alone that the others refer to, at any remove."""
    definitions = {definition(s): s for s in sources if s.endswith(".upbdefs.c")}
    folders = [root / folder for folder in include_folders(root)]
    generated = {s.rsplit(".", 1)[0]: s for s in sources if GENERATED.match(s)}
    result = {s for s in sources if not GENERATED.match(s)}
    seen: set[Path] = set()
    todo = [root / s for s in result]
    while todo:
        file = todo.pop()
        for name in DEFINITION.findall(file.read_text()) if file.match("*.upbdefs.c") else ():
            if (source := definitions.get(name)) and source not in result:
                result.add(source)
                todo.append(root / source)
        for name in included(file):
            found = next((f / name for f in folders if (f / name).is_file()), None)
            if found is None or found in seen:
                continue
            seen.add(found)
            todo.append(found)
            for stem in stems(str(found.relative_to(root))):
                if (source := generated.get(stem)) and source not in result:
                    result.add(source)
                    todo.append(root / source)
    return result


def sources(root: Path) -> list[str]:
    candidates = [
        source
        for source in listed(root)
        if "boringssl" not in source
        and not OTHER_SYSTEMS.search(source)
        and (GENERATED.match(source) or not XDS.search(source))
        and (root / source).is_file()
    ]
    keep = needed(root, candidates)
    return [source for source in candidates if source in keep]


# ---- Several sources in one translation unit ---------------------------------------------------

# Headers are most of what is compiled, so that it takes a third of the time to have up to so many
# sources include them together.
MOST = 16

DEFINED = re.compile(r"#\s*define\s+(\w+)")
LOCAL = re.compile(r"(static|const|constexpr|using|typedef|thread_local|GPR_THREAD_LOCAL)\b")
NAME = [
    re.compile(r"(?:class|struct|enum class|enum|union)\s+(\w+)"),
    re.compile(r"using\s+(?:[\w:]*::)?(\w+)"),
    re.compile(r"[\w:<>*&,\s]*?[*&\s](?:\w+::)*(\w+)\s*[(=;\[{]"),
]


def private_names(file: Path) -> set[str]:
    """
    Names that a source keeps to itself, and that another one in the same unit must not have.
    A guess by the way that lines begin: a unit that does not compile is divided.
    """
    names = set()
    anonymous = False
    for line in file.open(errors="replace"):
        if match := DEFINED.match(line):
            names.add(match[1])
        if re.match(r"\s*namespace\s*\{", line):
            anonymous = True
        elif re.match(r"\}\s*//\s*namespace\s*$", line):
            anonymous = False
        if line[:1] in " \t\n}/#":
            continue
        if anonymous or LOCAL.match(line):
            match = next(filter(None, (pattern.match(line) for pattern in NAME)), None)
            if match:
                names.add(match[1])
        names.update(re.findall(r"\bg_\w+", line))
    return names


def units(root: Path, files: Iterable[str]) -> list[list[str]]:
    """C++ sources in groups that can be compiled at once, C sources one by one."""
    result = []
    open_units: dict[str, list[tuple[list[str], set[str]]]] = {}
    for source in files:
        if not source.endswith(".cc"):
            result.append([source])
            continue
        library = source.split("/")[1] if source.startswith("third_party/") else "grpc"
        names = private_names(root / source)
        for unit, taken in open_units.setdefault(library, []):
            if len(unit) < MOST and not taken & names:
                unit.append(source)
                taken |= names
                break
        else:
            unit = [source]
            open_units[library].append((unit, set(names)))
            result.append(unit)
    # The largest first: the last ones should not keep a processor waiting.
    return sorted(result, key=len, reverse=True)
