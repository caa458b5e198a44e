"""The order of the layers under csrc/, read from the #include lines.

    py -> plugin -> services -> rpc, netrpc -> mux, tls, gob -> wire, os -> base

Each layer may include what is right of it. Layers that share a step do not know each other, and
py/ sees the public headers only.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
CSRC = ROOT / "csrc"
PUBLIC = CSRC / "include" / "gp"

STEPS = [
    ("base",),
    ("wire", "os"),
    ("mux", "tls", "gob"),
    ("rpc", "netrpc"),
    ("services",),
    ("plugin",),
    ("py",),
]
RANK = {layer: rank for rank, step in enumerate(STEPS) for layer in step}
ORDER = " -> ".join(", ".join(step) for step in reversed(STEPS))

# Foreign headers and the layers that may know them.
FOREIGN = {
    r"Python\.h|structmember\.h|frameobject\.h": {"py"},
    r"grpc/.*": {"rpc"},
    r"openssl/.*": {"tls"},
    r"jansson\.h": {"wire"},
    r"zlib\.h": {"rpc"},
    r"protobuf-c/.*": {"rpc", "services"},
    # What protobuf-c generates from proto/.
    r"gen/[^/]*\.pb-c\.h|.*\.pb-c\.h": {"rpc", "services"},
    # What csrc/Makefile makes from lists of functions (os/library.h).
    r"gen/rpc/.*": {"rpc"},
    r"gen/tls/.*": {"tls"},
    r"gen/libraries\.h": {"rpc", "tls"},
}

INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', re.MULTILINE)
COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
NEEDS_LOCK = re.compile(r"(?P<name>\w+)\([^;{}]*?\)\s*GP_REQUIRES\(")
# They release the lock that they are given while they wait.
WAITS = {"gp_cond_wait", "gp_cond_wait_until", "gp__cond_wait_interruptible"}
# A definition that other files can see: our style puts the name at the start of its own line.
DEFINITION = re.compile(r"^(?P<type>[^\n{}();#]+)\n(?P<name>gp_\w+)\(", re.MULTILINE)

SOURCES = sorted(p for layer in RANK for p in (CSRC / layer).rglob("*.[ch]"))
PUBLIC_HEADERS = sorted(PUBLIC.glob("*.h"))
HEADERS = [p for p in SOURCES if p.suffix == ".h"] + PUBLIC_HEADERS
GLUE = sorted((CSRC / "py").glob("*.[ch]"))


def layer_of(path: Path) -> str:
    """The folder right below csrc/, which may have folders of its own; "include" for gp/."""
    return path.relative_to(CSRC).parts[0]


C_FILES = [p for p in SOURCES if p.suffix == ".c" and layer_of(p) != "py"]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


class Include(NamedTuple):
    name: str
    line: int


def includes(path: Path) -> list[Include]:
    text = path.read_text(encoding="utf-8")
    # Blanked comments keep their newlines, so that line numbers stay true.
    text = COMMENT.sub(lambda m: re.sub(r"[^\n]", " ", m[0]), text)
    return [Include(m[1], text.count("\n", 0, m.start(1)) + 1) for m in INCLUDE.finditer(text)]


def layer_behind(public_header: str) -> str | None:
    """The layer that implements gp/NAME.h: the one that holds NAME.c; None for mere types."""
    stem = Path(public_header).stem
    for layer in RANK:
        if layer != "py" and any((CSRC / layer).rglob(f"{stem}.c")):
            return layer
    return None


def violation(path: Path, include: str) -> str | None:
    """Why this file must not include that header, or None when it may."""
    layer = layer_of(path)
    for pattern, allowed in FOREIGN.items():
        if re.fullmatch(pattern, include):
            if layer in allowed:
                return None
            return f"{include} belongs to {' and '.join(sorted(allowed))} alone"
    if ".." in include.split("/") or include.startswith("include/"):
        return "spell it as seen from csrc/ or csrc/include/"

    folder, _, rest = include.rpartition("/")
    if not folder and (path.parent / rest).exists():
        return None  # a neighbour, or a header of the system's that none of ours hides
    if folder == "gp":
        if not (PUBLIC / rest).exists():
            return f"there is no csrc/include/{include}"
        if path.parent == PUBLIC or layer == "py":
            return None
        behind = layer_behind(rest)
        if behind is None or behind == layer or RANK[behind] < RANK[layer]:
            return None
        return f"{include} is implemented in {behind}/, which {layer}/ may not include"
    below = folder.partition("/")[0]
    if below in RANK:
        if path.parent == PUBLIC:
            return "a public header may include only other public headers"
        if below == layer:
            return None
        if layer == "py":
            return "py/ may include only gp/ and its own headers"
        if RANK[below] < RANK[layer]:
            return None
        return f"{layer}/ may not include {below}/"
    return None


def test_there_is_something_to_check() -> None:
    assert SOURCES, f"no sources in {CSRC}"
    assert PUBLIC_HEADERS, f"no headers in {PUBLIC}"
    folders = {p.name for p in CSRC.iterdir() if p.is_dir()} - {"include"}
    assert folders <= set(RANK), f"not layers: {sorted(folders - set(RANK))}; the layers: {ORDER}"


@pytest.mark.parametrize("path", SOURCES + PUBLIC_HEADERS, ids=name_of)
def test_includes_point_one_way(path: Path) -> None:
    wrong = [
        f"{name_of(path)}:{line}: includes {include}: {reason}"
        for include, line in includes(path)
        if (reason := violation(path, include)) is not None
    ]
    assert not wrong, "\n".join([*wrong, f"each layer may include what is right of it: {ORDER}"])


@pytest.mark.parametrize("path", GLUE, ids=name_of)
def test_the_glue_imports_nothing_of_the_package(path: Path) -> None:
    text = COMMENT.sub("", path.read_text(encoding="utf-8"))
    imports = re.findall(r"\bPyImport_(?!GetModuleDict\b)\w+\(([^)]*)\)", text)
    assert set(imports) <= {'"asyncio"', '"json"', '"posix"'}
    private = set(re.findall(r"\bpygo_plugin\._\w+", text))
    assert private <= {"pygo_plugin._core"}


@pytest.mark.parametrize("path", HEADERS, ids=name_of)
def test_header_opens_by_naming_its_layer(path: Path) -> None:
    expected = "public" if path.parent == PUBLIC else layer_of(path)
    text = path.read_text(encoding="utf-8")
    opening = COMMENT.match(text)
    assert opening, f"{name_of(path)} does not open with a comment"
    assert re.search(rf"\bLayer: {expected}\b", opening[0]), (
        f"{name_of(path)}: the first comment should say 'Layer: {expected}.'"
    )


@pytest.mark.parametrize("path", C_FILES, ids=name_of)
def test_source_is_declared_in_a_header(path: Path) -> None:
    if path.with_suffix(".h").exists() or (PUBLIC / path.name).with_suffix(".h").exists():
        return
    headers = [*path.parent.glob("*.h"), *PUBLIC_HEADERS]
    declared = "\n".join(h.read_text(encoding="utf-8") for h in headers)
    defined = [
        m["name"]
        for m in DEFINITION.finditer(path.read_text(encoding="utf-8"))
        if not re.search(r"\bstatic\b", m["type"])
    ]
    assert defined, f"{name_of(path)} has no header, and defines nothing for anyone else"
    missing = [name for name in defined if not re.search(rf"\b{name}\(", declared)]
    assert not missing, (
        f"{name_of(path)} has no header of its own, and no header of {path.parent.name}/ or "
        f"include/gp/ declares {', '.join(missing)}"
    )


@pytest.mark.parametrize("path", [*SOURCES, *PUBLIC_HEADERS], ids=name_of)
def test_functions_that_need_a_lock_say_so(path: Path) -> None:
    text = COMMENT.sub("", path.read_text(encoding="utf-8"))
    names = {m["name"] for m in NEEDS_LOCK.finditer(text)} - WAITS
    assert [name for name in names if not name.endswith("_locked")] == []


# Functions that are called through macros of OpenSSL.
BY_MACROS = {
    "BIO_ctrl",
    "CRYPTO_free",
    "OPENSSL_sk_num",
    "OPENSSL_sk_value",
    "SSL_CTX_ctrl",
    "SSL_ctrl",
    "SSL_get_ex_data",
    "SSL_set_ex_data",
}
SYMBOL_LISTS = sorted(CSRC.rglob("*_symbols.txt"))


def test_there_are_lists_of_functions() -> None:
    assert SYMBOL_LISTS


@pytest.mark.parametrize("path", SYMBOL_LISTS, ids=name_of)
def test_lists_of_functions_name_those_that_are_called(path: Path) -> None:
    """The linker and the compiler tell what is missing in a list, but not what is superfluous."""
    names = path.read_text(encoding="utf-8").splitlines()
    assert names == sorted(set(names))
    code = "\n".join(
        COMMENT.sub("", p.read_text(encoding="utf-8")) for p in path.parent.glob("*.c")
    )
    used = set(re.findall(r"\w+", code)) | BY_MACROS
    assert [name for name in names if name not in used] == []
