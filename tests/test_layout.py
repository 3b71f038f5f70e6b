"""The house stands on its ground: imports run one way, and everything public is explained."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Final, NamedTuple

import pytest

import knet_trio

PACKAGE: Final = "knet_trio"
ROOT: Final = Path(__file__).parents[1] / PACKAGE

# From the bottom up, as docs/design.md shows them: the parts of one row import each other, and what
# is in the rows above theirs.
LAYERS: Final = (
    ("errors",),
    ("_core",),
    (
        "address",
        "config",
        "message",
        "events",
        "status",
        "_constructors",
        "_devices",
        "_opening",
        "_waiting",
    ),
    ("abc",),
    ("_logs",),
    ("_crypto", "_compress", "_transport"),
    ("_state",),
    ("_pipeline",),
    ("datafd",),
    ("_runtime",),
    ("_facade", "_settings", "link", "host", "channel", "handle", "_catalogue"),
    ("",),
    ("streams", "control", "channel_socket", "cluster", "rekeying", "tap", "metrics"),
    ("testing", "cli", "__main__"),
)

# They are programs on top of the package, and use it as any other program does.
USERS: Final = (
    *("streams", "control", "channel_socket", "cluster", "rekeying", "tap", "metrics"),
    *("cli", "testing", "__main__"),
)


class Module(NamedTuple):
    """A module of the package. ``name`` is dotted and begins below the package; "" is that."""

    name: str
    path: Path
    tree: ast.Module


def parse(path: Path) -> Module:
    parts = path.relative_to(ROOT).with_suffix("").parts
    if parts[-1] == "__init__":
        parts = parts[:-1]
    return Module(".".join(parts), path, ast.parse(path.read_text(encoding="utf-8"), str(path)))


MODULES: Final = {
    module.name: module
    for module in map(parse, sorted(ROOT.rglob("*.py")))
}  # fmt: skip

every_module = pytest.mark.parametrize(
    "module", MODULES.values(), ids=lambda module: module.name or PACKAGE
)


def is_type_checking(test: ast.expr) -> bool:
    match test:
        case ast.Name(id="TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING"):
            return True
        case _:
            return False


def import_statements(node: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """The imports in ``node`` that are run, within functions too."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        elif isinstance(child, ast.If) and is_type_checking(child.test):
            for other in child.orelse:
                yield from import_statements(ast.Module([other], []))
        else:
            yield from import_statements(child)


def absolute(module: Module, statement: ast.ImportFrom) -> str:
    """The dotted name that a ``from`` names, relative ones too."""
    if statement.level == 0:
        return statement.module or ""
    package = [PACKAGE, *filter(None, module.name.split("."))]
    if module.path.name != "__init__.py":
        package.pop()
    package = package[: len(package) - (statement.level - 1)]
    return ".".join([*package, *filter(None, [statement.module])])


def imported_names(module: Module) -> Iterator[str]:
    """Every dotted name that ``module`` imports."""
    for statement in import_statements(module.tree):
        if isinstance(statement, ast.Import):
            yield from (alias.name for alias in statement.names)
            continue
        source = absolute(module, statement)
        for alias in statement.names:
            submodule = f"{source}.{alias.name}"
            yield submodule if submodule.removeprefix(f"{PACKAGE}.") in MODULES else source


def imports(module: Module) -> set[str]:
    """The modules of the package that ``module`` imports, by their names in it."""
    return {
        name.removeprefix(PACKAGE).removeprefix(".")
        for name in imported_names(module)
        if name == PACKAGE or name.startswith(f"{PACKAGE}.")
    }


def is_in(name: str, part: str) -> bool:
    return name == part or name.startswith(f"{part}.")


def modules_of(part: str) -> list[Module]:
    return [module for name, module in MODULES.items() if is_in(name, part)]


def test_the_ways_of_importing_are_all_seen() -> None:
    source = """
import knet_trio.address as a
from knet_trio import errors, Handle
from knet_trio._core import onwire
from knet_trio._core.sizes import CLEAR
from . import slots
from .envelope import NONE
from ..message import Message
if TYPE_CHECKING:
    import knet_trio.handle
elif True:
    import knet_trio.host
def late():
    import knet_trio.link
import trio
"""
    module = Module("_crypto.slots", Path("slots.py"), ast.parse(source))
    assert imports(module) == {
        "address",
        "errors",
        "",
        "_core.onwire",
        "_core.sizes",
        "_crypto.slots",
        "_crypto.envelope",
        "message",
        "host",
        "link",
    }
    package = Module("_crypto", Path("__init__.py"), ast.parse("from .slots import CLEAR"))
    assert imports(package) == {"_crypto.slots"}


def layer_of(name: str) -> int:
    """The row of a module."""
    top = name.partition(".")[0]
    return next(row for row, parts in enumerate(LAYERS) if top in parts)


@every_module
def test_imports_run_one_way(module: Module) -> None:
    assert {
        f"{module.name} imports {name or PACKAGE}"
        for name in imports(module)
        if layer_of(name) > layer_of(module.name)
    } == set()


def test_the_documentation_shows_the_layers() -> None:
    text = (ROOT.parent / "docs" / "design.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`[^|]*`) \|", text, re.MULTILINE)
    shown = [tuple(re.findall(r"`([^`]*)`", row)) for row in rows[: len(LAYERS)]]
    assert shown == [tuple(part or PACKAGE for part in parts) for parts in LAYERS]


def test_only_programs_on_top_import_the_public_names() -> None:
    assert {
        module.name
        for module in MODULES.values()
        if "" in imports(module) and not any(is_in(module.name, user) for user in USERS)
    } == set()


def test_no_module_imports_itself_by_way_of_others() -> None:
    graph = {module.name: imports(module) - {module.name} for module in MODULES.values()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"imports run in a circle: {' -> '.join(error.args[1])}")


@pytest.mark.parametrize("core", ["_core", "streams._core"])
def test_the_core_knows_nothing_of_io_clocks_and_randomness(core: str) -> None:
    outside = {"trio", "socket", "select", "time", "random", "secrets", "os", "threading"}
    assert {
        f"{module.name} imports {name}"
        for module in modules_of(core)
        for name in imported_names(module)
        if name.partition(".")[0] in outside
    } == set()


def test_the_core_of_streams_is_apart_from_everything_else() -> None:
    # But for what bytes are given in that are sent without being put together.
    common = "_core.parted"
    assert {
        f"{module.name} imports {name or PACKAGE}"
        for module in modules_of("streams._core")
        for name in imports(module)
        if not is_in(name, "streams._core") and name != common
    } == set()


Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def public(node: ast.Module | ast.ClassDef, prefix: str) -> Iterator[tuple[str, Documented]]:
    """What is public in ``node``, with its name: classes, functions, and their own methods."""
    for child in node.body:
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if child.name.startswith("_"):
                continue
            name = f"{prefix}.{child.name}"
            yield name, child
            if isinstance(child, ast.ClassDef):
                yield from public(child, name)


def is_exempt(node: Documented) -> bool:
    """An overload, or a setter: explained where the function, or the property, is."""
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return False
    return any(
        ast.unparse(decorator).rpartition(".")[2] in ("overload", "setter", "override")
        for decorator in node.decorator_list
    )


@every_module
def test_every_public_thing_has_a_docstring(module: Module) -> None:
    name = ".".join(filter(None, [PACKAGE, module.name]))
    things: list[tuple[str, Documented]] = [(name, module.tree), *public(module.tree, name)]
    assert [
        thing for thing, node in things if not ast.get_docstring(node) and not is_exempt(node)
    ] == []


def test_every_public_name_exists_and_is_listed_once_in_order() -> None:
    assert [name for name in knet_trio.__all__ if not hasattr(knet_trio, name)] == []
    assert knet_trio.__all__ == sorted(set(knet_trio.__all__))


def test_every_name_the_package_imports_for_its_users_is_public() -> None:
    """Type checkers, which see the imports, and programs, which use the table, get the same."""
    (block,) = (
        node
        for node in MODULES[""].tree.body
        if isinstance(node, ast.If) and is_type_checking(node.test)
    )
    seen = {
        (statement.module, alias.asname or alias.name)
        for statement in block.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }
    assert {name for _, name in seen} == set(knet_trio.__all__)
    modules = knet_trio._MODULES  # pyright: ignore[reportPrivateUsage]
    assert seen == {(module, name) for module, names in modules.items() for name in names}


def test_names_of_the_package_that_are_not_there() -> None:
    with pytest.raises(AttributeError, match="module 'knet_trio' has no attribute 'open_handel'"):
        getattr(knet_trio, "open_handel")  # noqa: B009
    assert set(knet_trio.__all__) <= set(dir(knet_trio))
    assert "Final" not in dir(knet_trio)


def test_no_class_name_stands_twice() -> None:
    places: dict[str, list[str]] = {}
    for module in MODULES.values():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, []).append(module.name)
    assert {name: where for name, where in places.items() if len(where) > 1} == {}
