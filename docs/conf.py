"""Sphinx: Markdown by MyST, the furo theme, the reference from docstrings. Build with ./dev docs."""

from importlib.metadata import version as installed_version

project = "Samovar"
author = "The Samovar authors"
copyright = "The Samovar authors"
version = release = installed_version("samovar")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_design",
]
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

# Links between pages, terms and headings must exist. Python names may point at libraries whose inventories would have
# to be fetched from the network at every build, so those are not followed up.
nitpicky = True
nitpick_ignore_regex = [("py:.*", ".*")]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False

html_theme = "furo"
html_title = "Samovar"
html_static_path = ["_static"]
