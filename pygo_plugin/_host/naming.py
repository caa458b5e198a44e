"""What a command line runs: where the names of plugins come from.

A plugin in Python is launched as `python plugin.py`, and the executable's name says nothing about
it. The same holds for other interpreters, and for commands such as `env` and `uv run`, which run
another command line. Only the arguments are looked at, never the file system.
"""

from __future__ import annotations

import os.path
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["base_name", "printable", "program_of"]


class _Syntax:
    """How a command line names what it runs.

    names        options whose value is a module, a class or a file to run, such as `-m`
    values       other options whose value is the next argument, unless it is attached
    attached     short options with an optional value, which follows without a space, as in `-W2`
    none         options after which there is no program, because its text is given instead
    words        subcommands before the program, such as `run` in `uv run`
    skipped      how many arguments precede the program
    combined     whether short options can be combined, as in `-Im`
    command      whether the program is a command line of its own, which is looked at as well
    """

    __slots__ = ("attached", "combined", "command", "names", "none", "skipped", "values", "words")

    def __init__(
        self,
        *,
        names: str = "",
        values: str = "",
        attached: str = "",
        none: str = "",
        words: str = "",
        skipped: int = 0,
        combined: bool = False,
        command: bool = False,
    ) -> None:
        self.names = frozenset(names.split())
        self.values = frozenset(values.split())
        self.attached = frozenset(attached.split())
        self.none = frozenset(none.split())
        self.words = frozenset(words.split())
        self.skipped = skipped
        self.combined = combined
        self.command = command

    def find(self, arguments: Sequence[str]) -> Sequence[str]:
        """The program and what follows it; empty if the arguments name none."""
        i, skipped, options = 0, self.skipped, True
        while i < len(arguments):
            argument = arguments[i]
            i += 1
            if options and argument == "--":
                options = False
            elif options and len(argument) > 1 and argument[0] in "-+":
                name, attached = self._option(argument)
                if name in self.names:
                    return arguments[i:] if attached is None else [attached, *arguments[i:]]
                if name in self.none:
                    return ()
                if name in self.values and attached is None:
                    i += 1
            elif argument == "-":  # the standard input
                return ()
            elif self.command and "=" in argument and argument.partition("=")[0].isidentifier():
                pass  # a variable, as `env` and `sudo` take them
            elif argument in self.words:
                pass
            elif skipped:
                skipped -= 1
            else:
                return arguments[i - 1 :]
        return ()

    def _option(self, argument: str) -> tuple[str, str | None]:
        """The name of the option that matters, and the value that is attached to it."""
        known = self.names | self.values | self.none
        name, equals, value = argument.partition("=")
        if name in known:
            return name, value if equals else None
        if self.combined and not argument.startswith("--"):
            for i, letter in enumerate(argument[1:], 2):
                if f"-{letter}" in self.attached:
                    break
                if f"-{letter}" in known:
                    return f"-{letter}", argument[i:] or None
        return argument, None


_PYTHON = _Syntax(
    names="-m", values="-W -X --check-hash-based-pycs", none="-c -V -h", combined=True
)
_NODE = _Syntax(
    values="-r --require --import --loader --experimental-loader -C --conditions --env-file "
    "--tsconfig",
    none="-e --eval -p --print -pe",
    words="run",
)
_RUBY = _Syntax(values="-C -E -I -r", attached="-0 -F -K -T -W -i -x", none="-e", combined=True)
_PERL = _Syntax(
    values="-I", attached="-0 -C -D -F -M -V -d -i -l -m -x", none="-e -E", combined=True
)
_SHELL = _Syntax(values="-o -O --rcfile --init-file", none="-c -s", combined=True)
_LUA = _Syntax(values="-l", none="-e", combined=True)

# Modules of Python, and commands of the same names, that run another Python program.
_PYTHON_RUNNER = _Syntax(
    names="-m --module",
    values="-o -s --source --include --omit --rcfile --data-file --context --concurrency --debug "
    "--listen --connect --log-to --output_file --outfile --output -i --interval --renderer -c",
    words="run",
    command=True,
)
_RUN = _Syntax(command=True)  # options without values, then a command line
# Managers of packages and environments: `uv run plugin.py`.
_MANAGER = _Syntax(
    names="-m --module --script",
    values="-p --python -n --name --cwd --prefix --project --directory --with --with-editable "
    "--with-requirements --extra --group --package --index --default-index --env-file --from -E -C "
    "-e --config-file --filter",
    words="run exec tool x",
    command=True,
)

_SYNTAXES = {
    # interpreters
    "python": _PYTHON,
    "pythonw": _PYTHON,
    "pypy": _PYTHON,
    "node": _NODE,
    "nodejs": _NODE,
    "bun": _NODE,
    "tsx": _NODE,
    "ts-node": _NODE,
    "deno": _Syntax(values="-c --config --import-map --env-file --cert -L", words="run"),
    "ruby": _RUBY,
    "jruby": _RUBY,
    "perl": _PERL,
    "php": _Syntax(names="-f", values="-c -d", none="-r"),
    "lua": _LUA,
    "luajit": _LUA,
    "tclsh": _Syntax(),
    "java": _Syntax(
        names="-jar -m --module",
        values="-cp -classpath --class-path -p --module-path --upgrade-module-path --add-modules "
        "--add-reads --add-exports --add-opens --patch-module --source --enable-native-access",
    ),
    "dotnet": _Syntax(
        names="--project", values="--runtimeconfig --depsfile --fx-version", words="run exec"
    ),
    "mono": _Syntax(),
    "pwsh": _Syntax(names="-File -f", none="-Command -c"),
    "rscript": _Syntax(none="-e"),
    "julia": _Syntax(values="-J -C -p -t -L --threads --procs --load --machine-file", none="-e -E"),
    "elixir": _Syntax(values="-r -S -pa -pz --name --sname --cookie", none="-e --eval"),
    "escript": _Syntax(),
    "go": _Syntax(values="-C -tags -ldflags -gcflags -o -p -exec -mod", words="run"),
    "cargo": _Syntax(names="--bin --example", values="--features -p --package -F", words="run"),
    "wasmtime": _Syntax(values="--dir --env -W -S", words="run"),
    **dict.fromkeys(("sh", "bash", "dash", "ash", "ksh", "zsh", "fish"), _SHELL),
    # commands that run another command line
    "env": _Syntax(
        values="-u --unset -C --chdir", none="-S --split-string", combined=True, command=True
    ),
    "nice": _Syntax(values="-n", combined=True, command=True),
    "ionice": _Syntax(values="-c -n --class --classdata", combined=True, command=True),
    "chrt": _Syntax(skipped=1, command=True),
    "taskset": _Syntax(skipped=1, command=True),
    "timeout": _Syntax(
        values="-k -s --kill-after --signal", skipped=1, combined=True, command=True
    ),
    "stdbuf": _Syntax(values="-i -o -e", combined=True, command=True),
    "time": _Syntax(values="-f -o", combined=True, command=True),
    "sudo": _Syntax(
        values="-u -g -h -p -C -D -R -T --user --group --chdir", combined=True, command=True
    ),
    "doas": _Syntax(values="-u -C", combined=True, command=True),
    "strace": _Syntax(values="-e -o -E -s -P -u", combined=True, command=True),
    "xvfb-run": _Syntax(values="-n -s -e -f -w", command=True),
    **dict.fromkeys(
        ("nohup", "setsid", "busybox", "valgrind", "ddtrace-run", "opentelemetry-instrument"), _RUN
    ),
    **dict.fromkeys(
        ("uv", "uvx", "pipx", "poetry", "pipenv", "pdm", "hatch", "rye", "pixi", "conda", "mamba"),
        _MANAGER,
    ),
    **dict.fromkeys(("micromamba", "bundle", "npx", "bunx", "npm", "pnpm", "yarn"), _MANAGER),
    # modules that run another program
    **dict.fromkeys(
        ("pygo_plugin.run", "coverage", "pdb", "cprofile", "profile", "trace", "debugpy"),
        _PYTHON_RUNNER,
    ),
    **dict.fromkeys(("memray", "viztracer", "pyinstrument"), _PYTHON_RUNNER),
}

# Interpreters whose executables are named after their versions: python3.13t, pypy3, ruby3.2, php8.
_VERSIONED = re.compile(
    r"((?:python|pypy|ruby|perl|php|lua)(?=[\d-]))-?[\d.]*(?:td?|d)?(?:-(?:dbg|debug|intel64))?"
)

# Files whose names say nothing: they are called by the name of their directory.
_NAMELESS = ("__main__.py", "index.js", "index.ts", "", ".", "..")


def program_of(command: Sequence[str]) -> str:
    """What a command line runs: a script, a module or an executable, as the command line has it.

    It is the executable if nothing else is found, for instance because the program's text is an
    argument (`python -c ...`).
    """
    program = command[0] if command else ""
    rest: Sequence[str] = command
    while rest:
        program = rest[0]
        syntax = _syntax_of(program)
        found = () if syntax is None else syntax.find(rest[1:])
        if not found:
            break
        if syntax is not None and not syntax.command and not _runs_another(found[0]):
            return found[0]
        rest = found
    return program


def _runs_another(program: str) -> bool:
    """Whether a program that an interpreter runs is a module that runs another program."""
    return _SYNTAXES.get(program.lower()) is _PYTHON_RUNNER


def _syntax_of(program: str) -> _Syntax | None:
    name = os.path.basename(program).lower()
    name = name[:-4] if name.endswith(".exe") else name
    versioned = _VERSIONED.fullmatch(name)
    return _SYNTAXES.get(versioned[1] if versioned else name)


def base_name(program: str, directory: str = "") -> str:
    """The name of a program: its file name, or the module as it is.

    A file such as `__main__.py` has the name of its directory. `directory` is the working directory
    of the program; empty for that of this process.
    """
    name = os.path.basename(program.rstrip("/")) if program.strip("/") else program
    if name in _NAMELESS and program:
        folder = program if name in ("", ".", "..") else os.path.dirname(program)
        name = os.path.basename(os.path.abspath(os.path.join(directory, folder))) or program
    elif "/" not in program and name.endswith(".__main__"):
        name = name[: -len(".__main__")]
    return name


def printable(name: str) -> str:
    """The name on one line, and with characters only that every encoding of Unicode has."""
    if name.isprintable():
        return name
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)
