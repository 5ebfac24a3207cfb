"""Sphinx's configuration: `make docs`. What is described is the extension as it is built; no page needs the network."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))

import python_inventory  # noqa: E402

import aioxide  # noqa: E402

project = "aioxide"
author = "the aioxide maintainers"
project_copyright = author
version = release = aioxide.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.intersphinx", "names"]
exclude_patterns = ["_ext"]
nitpicky = True  # a reference that leads nowhere is a warning, and a warning is an error

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

autodoc_member_order = "groupwise"
autodoc_typehints = "none"
python_display_short_literal_types = True
add_module_names = False
toc_object_entries_show_parents = "hide"

inventory = HERE.parent / "build" / "python.inv"
python_inventory.write(inventory)
python_docs = f"https://docs.python.org/{sys.version_info[0]}.{sys.version_info[1]}"
intersphinx_mapping = {"python": (python_docs, str(inventory))}

suppress_warnings = ["myst.header"]  # DESIGN.md has questions, and no chapters

html_theme = "furo"
html_title = "aioxide"
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_static_path = ["_static"]
html_css_files = ["aioxide.css"]
pygments_style = "friendly"
