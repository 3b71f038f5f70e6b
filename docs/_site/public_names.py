"""A Sphinx extension for the reference: what of a class is shown, and where names lead to."""

from __future__ import annotations

import enum
import inspect
import re
import sys
from importlib import import_module
from typing import Any, Final

from docutils import nodes
from sphinx.addnodes import desc, desc_signature, pending_xref
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
_FILE: Final = re.compile(r"(?:docs/)?([\w-]+)\.md")
# Code in a page that names something: `Channel.send`, `await Host.remove()`, `Host.name = "beta"`.
_NAMED: Final = re.compile(r"(?:await |async with )?([A-Za-z_][\w.]*)(\(.*\))?(?: = .*)?")
# What the pages call an object of a class.
_VARIABLES: Final = {
    "channel": "Channel",
    "handle": "Handle",
    "host": "Host",
    "link": "Link",
    "network": "SimulatedNetwork",
    "request": "HostRequest",
    "stream": "HostStream",
    "streams": "Streams",
}
_TRIO: Final = "https://trio.readthedocs.io/en/stable/reference-{page}.html#{name}"
_TRIO_MODULES: Final = ("", "from_thread", "to_thread")
# Which page of Trio's reference has a name: the first that fits, else the page `core`.
_TRIO_PAGES: Final = (
    (re.compile(r"trio\.(abc|socket)\.|trio\.(SSL|Socket|aclose_forcefully)"), "io"),
    (re.compile(r"trio\.lowlevel\."), "lowlevel"),
    (re.compile(r"trio\.testing\."), "testing"),
)


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
    """Where a link has the name of a file, show the title of the page, or of the section in it."""
    for reference in doctree.findall(nodes.reference):
        named = _FILE.fullmatch(reference.astext())
        if named and reference.get("internal"):
            page = next((one for one in (named[1], f"api/{named[1]}") if one in app.env.titles), "")
            title = find_section(app.env, page, reference) or app.env.titles.get(page)
            if title is not None:
                words = title.astext()
                reference.children = [nodes.inline(words, words)]


def find_section(
    env: BuildEnvironment, page: str, reference: nodes.reference
) -> nodes.reference | None:
    """Return the entry of a page's contents that a link leads to, if it leads into the page."""
    place = reference.get("refuri", "").partition("#")[2] or reference.get("refid", "")
    entries = env.tocs[page].findall(nodes.reference) if place and page in env.tocs else ()
    return next((one for one in entries if one["anchorname"] == f"#{place}"), None)


def link_names(app: Sphinx, doctree: nodes.document, name: str) -> None:
    """Lead from code that is a public name to its place in the reference."""
    names = find_names(app.env)
    for literal in list(doctree.findall(nodes.literal)):
        found = _NAMED.fullmatch(literal.astext())
        if found is None or is_within(literal, nodes.reference, nodes.title, desc_signature):
            continue
        first, _, rest = found[1].partition(".")
        key = f"{_VARIABLES[first]}.{rest}" if rest and first in _VARIABLES else found[1]
        # A plain word may be anything: an option, an argument, a command.
        if key.islower() and "_" not in key and "." not in key and not found[2]:
            continue
        page, place = names.get(key, ("", ""))
        if page and not is_within_its_own(literal, place):
            uri = app.builder.get_relative_uri(name, page) + f"#{place}"
        elif first == "trio" and rest not in _TRIO_MODULES:
            uri = find_in_trio(key)
        else:
            continue
        reference = nodes.reference("", "", internal=first != "trio", refuri=uri)
        literal.replace_self(reference)
        reference += literal


def find_in_trio(name: str) -> str:
    """Return where Trio's documentation explains a name."""
    pages = (page for pattern, page in _TRIO_PAGES if pattern.match(name))
    return _TRIO.format(page=next(pages, "core"), name=name)


def find_names(env: BuildEnvironment) -> dict[str, tuple[str, str]]:
    """Return the page and the place of every public name, with and without its module."""
    names: dict[str, tuple[str, str]] = {}
    for path, entry in sorted(env.domains.python_domain.objects.items()):
        module = max((one for one in MODULES if path.startswith(f"{one}.")), key=len, default="")
        for key in (path, path.removeprefix(f"{module}.")):
            names.setdefault(key, (entry.docname, entry.node_id))
    return names


def is_within(node: nodes.Node, *kinds: type[nodes.Node]) -> bool:
    """Return whether a node is part of one of these kinds."""
    parent = node.parent
    while parent is not None and not isinstance(parent, kinds):
        parent = parent.parent
    return parent is not None


def is_within_its_own(node: nodes.Node, place: str) -> bool:
    """Return whether a node is part of the description of what stands at a place."""
    parent = node.parent
    while parent is not None:
        if isinstance(parent, desc):
            signatures = [one for one in parent.children if isinstance(one, desc_signature)]
            if any(place in one["ids"] for one in signatures):
                return True
        parent = parent.parent
    return False


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
        place = find_in_trio(name)
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
    app.connect("doctree-resolved", link_names)
    app.connect("missing-reference", find_elsewhere)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
