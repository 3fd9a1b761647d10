"""Fingerprint of code: a hash of what modules do, not of how they are written down.

A result is named by the code that decides it, so that other code gives another result and a changed
comment does not. Docstrings, comments and formatting do not count.
"""

import ast
import hashlib
from collections.abc import Collection, Iterable, Iterator
from functools import cache
from pathlib import Path

_ROOT = Path(__file__).parents[2]
"""Folder that contains our packages."""

_PACKAGE = __name__.partition(".")[0]


def code_fingerprint(roots: Iterable[str], *, without: Collection[str] = ()) -> str:
    """Hash the code of `roots` and of every module of this package that they import.

    Args:
        roots: module names, such as "stvsr.data.shards.write".
        without: modules, or packages with all below them, that cannot change the result; neither
            they nor what only they import counts.

    Returns:
        16 hexadecimal digits, the same on every machine.

    Raises:
        ValueError: a name in `roots` or `without` is no module of this package.
    """
    modules = import_closure(roots, without=without)
    text = "\n".join(f"{module} {_digest(module)}" for module in modules)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def import_closure(roots: Iterable[str], *, without: Collection[str] = ()) -> tuple[str, ...]:
    """Name, sorted, `roots` and every module of this package that they import, at any depth.

    Imports in functions count, those for type checkers alone do not. Arguments and errors are those
    of `code_fingerprint`.
    """
    waiting = list(roots)
    for name in (*waiting, *without):
        if _file(name) is None:
            raise ValueError(f"{name}: no module of {_PACKAGE}")
    found: set[str] = set()
    while waiting:
        module = waiting.pop()
        if module in found or _is_below(module, without):
            continue
        found.add(module)
        waiting += _imports(module)
    return tuple(sorted(found))


def _is_below(module: str, packages: Collection[str]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def _file(module: str) -> Path | None:
    """The file of a module or package of ours; None: there is none.

    The outermost package is left out: it holds the version, which decides nothing.
    """
    if not module.startswith(f"{_PACKAGE}."):
        return None
    path = _ROOT.joinpath(*module.split("."))
    candidates = (path.with_suffix(".py"), path / "__init__.py")
    return next((file for file in candidates if file.is_file()), None)


@cache
def _tree(module: str) -> ast.Module:
    file = _file(module)
    if file is None:
        raise ValueError(f"{module}: no module of {_PACKAGE}")
    return ast.parse(file.read_bytes())


@cache
def _imports(module: str) -> tuple[str, ...]:
    """Modules of ours that `module` imports, and the packages that they are in."""
    named = {name for node in _at_run_time(_tree(module)) for name in _named(node)}
    parts = {name: name.split(".") for name in named}
    packages = {
        ".".join(words[:length]) for words in parts.values() for length in range(2, len(words) + 1)
    }
    return tuple(sorted(name for name in packages if _file(name) is not None))


def _at_run_time(node: ast.AST) -> Iterator[ast.AST]:
    """Every node below `node` except those under `if TYPE_CHECKING`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            continue
        yield child
        yield from _at_run_time(child)


def _named(node: ast.AST) -> Iterator[str]:
    """Names that an import statement may mean: `from a import b` means a, and perhaps a.b."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module:
        yield node.module
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


@cache
def _digest(module: str) -> str:
    return hashlib.sha256(_text(_tree(module)).encode()).hexdigest()


def _text(node: object) -> str:
    """The syntax tree as text, without what is empty (Python's versions differ in that)."""
    if isinstance(node, ast.AST):
        fields = ((name, value) for name, value in ast.iter_fields(node) if value not in (None, []))
        return f"{type(node).__name__}({','.join(f'{n}={_text(v)}' for n, v in fields)})"
    if isinstance(node, list):
        return f"[{','.join(_text(item) for item in node if not _is_docstring(item))}]"
    return repr(node)


def _is_docstring(node: object) -> bool:
    """True if a statement is a string alone: the docstring of a module, a class, a field."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
