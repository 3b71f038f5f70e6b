"""A Sphinx extension for the reference: what of a class is shown, and where names lead to."""

from __future__ import annotations

import enum
import inspect
import re
import sys
from importlib import import_module
from typing import Any, Final

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.ext.napoleon import Config
from sphinx.ext.napoleon.docstring import GoogleDocstring

PACKAGE: Final = "knet_trio"
MODULES: Final = (
    PACKAGE,
    *(
        f"{PACKAGE}.{name}"
        for name in (
            "abc",
            "channel_socket",
            "cluster",
            "control",
            "metrics",
            "rekeying",
            "streams",
            "tap",
            "testing",
        )
    ),
)
PUBLIC: Final = frozenset(
    ("Address", *(name for module in MODULES for name in import_module(module).__all__))
)

# What has a first paragraph with a colon, which napoleon would take for a type and its meaning.
_VALUES: Final = ("attribute", "data", "property")
_GOOGLE: Final[Any] = Config(napoleon_numpy_docstring=False, napoleon_use_rtype=False)
# Where names of other projects are explained. A link that is made from the name alone needs no
# inventory, which Sphinx would have to fetch.
_PYTHON: Final = "https://docs.python.org/3/library/{module}.html#{name}"
_PYTHON_MODULES: Final = (
    "abc",
    "collections.abc",
    "contextlib",
    "enum",
    "ipaddress",
    "os",
    "pathlib",
    "socket",
    "typing",
)
_YIELDS: Final = re.compile(r"~?(?:[\w.]+\.)?AsyncGenerator\[(.*?)(?:, None)?\]$")
_FILE: Final = re.compile(r"[\w-]+\.md")
_TRIO: Final = "https://trio.readthedocs.io/en/stable/reference-{page}.html#{name}"


def convert_docstring(
    app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    """Turn the Google sections of a docstring into fields."""
    kind: Any = "object" if what in _VALUES else what
    lines[:] = GoogleDocstring(lines, _GOOGLE, app, kind, name, obj, options).lines()
    if any(line.endswith("::") for line in lines):
        lines[:0] = [".. highlight:: python", ""]


def choose_signature(
    app: Sphinx, what: str, name: str, obj: object, options: object, signature: str, returns: str
) -> tuple[str, str] | None:
    """Show no arguments of a class that programs get from a call and do not make.

    What is for ``async with`` is shown as what it returns, not as the generator that it is.
    """
    made = getattr(obj, "__wrapped__", None)
    if inspect.isasyncgenfunction(made) and returns:
        return (signature, _YIELDS.sub(r"~contextlib.AbstractAsyncContextManager[\1]", returns))
    if what != "class" or not inspect.isclass(obj):
        return None
    hidden = signature == "()" or names_private(signature or "", obj.__module__)
    return ("", returns) if hidden else None


def names_private(signature: str, module: str) -> bool:
    """Return whether a signature has a type that programs cannot name."""
    return any(is_private(word, module) for word in re.findall(r"[A-Za-z_][\w.]*", signature))


def is_private(word: str, module: str) -> bool:
    """Return whether a word of a signature in that module is a class of the package's own."""
    path, _, name = word.rpartition(".")
    if path.startswith(PACKAGE):
        return name not in PUBLIC
    found = getattr(sys.modules[module], word, None)
    if inspect.isclass(found) and found.__module__.startswith(PACKAGE):
        return name not in PUBLIC
    # What is imported for type checkers alone.
    return word in ("LinkState", "Runtime")


def hide_private_bases(
    app: Sphinx, name: str, obj: object, options: object, bases: list[type]
) -> None:
    """Show no base class that programs cannot name."""
    bases[:] = [base for base in bases if "._" not in base.__module__] or [object]


def choose_member(
    app: Sphinx, what: str, name: str, obj: object, skip: bool, options: object
) -> bool | None:
    """Leave out what the docstring of the class has, and what only the package itself can use."""
    if type(obj).__name__ == "_tuplegetter":
        # A field of a named tuple, which is among the attributes.
        return True
    if isinstance(obj, enum.Enum) and obj.name == name:
        return f"\n    {name}:" in (inspect.getdoc(type(obj)) or "")
    function = obj.fget if isinstance(obj, property) else obj
    if inspect.isfunction(function) and not skip:
        annotations = " ".join(map(str, function.__annotations__.values()))
        return True if names_private(annotations, function.__module__) else None
    return None


def name_pages(app: Sphinx, doctree: nodes.document, name: str) -> None:
    """Where a page is linked to by the name of its file, show its title in place of that."""
    for reference in doctree.findall(nodes.reference):
        text = reference.astext()
        if _FILE.fullmatch(text) and reference.get("internal"):
            page = text.removesuffix(".md")
            title = app.env.titles.get(page, app.env.titles.get(f"api/{page}"))
            if title is not None:
                words = title.astext()
                reference.children = [nodes.inline(words, words)]


def find_elsewhere(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.TextElement
) -> nodes.reference | None:
    """Link a name of Python's library or Trio's to where it is explained."""
    if node.get("refdomain") != "py":
        return None
    name: str = node["reftarget"]
    module, _, _ = name.rpartition(".")
    if module in _PYTHON_MODULES:
        place = _PYTHON.format(module=module, name=name)
    elif module in ("trio", "trio.abc"):
        place = _TRIO.format(page="io" if module == "trio.abc" else "core", name=name)
    else:
        return None
    return nodes.reference("", "", content, internal=False, refuri=place, reftitle=name)


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect the above."""
    app.connect("autodoc-process-docstring", convert_docstring)
    app.connect("autodoc-process-signature", choose_signature)
    app.connect("autodoc-process-bases", hide_private_bases)
    app.connect("autodoc-skip-member", choose_member)
    app.connect("doctree-resolved", name_pages)
    app.connect("missing-reference", find_elsewhere)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
