"""How Sphinx builds the site: `nox -s docs`. The pages are the Markdown files beside this one."""

from __future__ import annotations

import sys
from importlib.metadata import version as installed_version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_site"))

project = "knet_trio"
author = "The knet_trio authors"
project_copyright = author
version = release = installed_version("knet-trio")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx_copybutton",
    "public_names",
]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_site", "man"]

# Markdown. Headings have the anchors that GitHub gives them, which the links between pages use.
myst_heading_anchors = 4
myst_enable_extensions = ["attrs_inline", "colon_fence"]
# What is copied has neither prompts nor output.
copybutton_prompt_text = "$ "
copybutton_only_copy_prompt_lines = True
copybutton_exclude = ".linenos, .gp, .go"

# The reference is made of the docstrings.
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_class_signature = "mixed"
autodoc_default_options = {"members": True}
python_maximum_signature_line_length = 80
python_use_unqualified_type_names = True
add_module_names = False
toc_object_entries_show_parents = "hide"

# Every reference has to lead somewhere. Those to other projects cannot be followed, since a build
# reads nothing from the network.
nitpicky = True
nitpick_ignore = [
    # What JSON can be, and a type variable.
    ("py:class", "Json"),
    ("py:class", "knet_trio.testing.running.T"),
]
nitpick_ignore_regex = [("py:class", r"prometheus_client\..*")]

html_theme = "furo"
html_title = f"knet_trio {release}"
html_static_path = ["_site/static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {
    "navigation_with_keys": True,
}
# A block without a language is no program.
highlight_language = "none"
pygments_style = "tango"
pygments_dark_style = "monokai"
