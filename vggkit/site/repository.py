"""The book's Sphinx extension that leads from its pages to the repository they come from, where one is named.

`VGGKIT_REPOSITORY=https://github.com/OWNER/NAME make book` gives every page the buttons of its source, of an edit
and of an issue; the notebooks among the pages get those that open them on Binder and Colab. Another branch than `main`
is named as GitHub does: `.../OWNER/NAME/tree/BRANCH`. Without the variable the book has none of these buttons,
since they would lead nowhere. The project names no repository of its own: a fork's book leads to the fork.
"""

import os
import re
from typing import Any
from urllib.parse import quote

from sphinx.application import Sphinx
from sphinx.config import Config

from vggkit.config import ConfigError

VARIABLE = "VGGKIT_REPOSITORY"
HOW_TO_RERUN = "rerun"  # the page that tells how to run a notebook again
LAUNCH = {
    "binderhub_url": "https://mybinder.org",
    "colab_url": "https://colab.research.google.com",
    "notebook_interface": "jupyterlab",
}
LAUNCHING = """

## In the browser

On the page of [a run](runs/index.md), the rocket at the top opens that page's notebook on Binder or on Colab. Binder
sets up the whole project, which takes it some minutes the first time. Colab brings the notebook alone: there, run
this cell before all others.

```
!git clone --depth 1 --branch {branch} {url} project
%cd project
%pip install --quiet .
```
"""


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx, which finds the extension in the book's _config.yml."""
    app.add_config_value("vggkit_repository", os.environ.get(VARIABLE, ""), "env", (str,))
    app.connect("config-inited", _link)
    app.connect("source-read", _tell_how_to_launch)
    app.connect("html-page-context", _launch_notebooks_alone, priority=900)  # after the theme has made its buttons
    app.connect("html-page-context", _lead_to_notebook, priority=920)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def parse(name: str) -> tuple[str, str]:
    """URL and branch of the repository that `name` names.

    Raises:
        ConfigError: it names none on GitHub, which alone Colab and the buttons know.
    """
    part = r"[A-Za-z0-9_.-]+"
    found = re.fullmatch(rf"(https://github\.com/{part}/{part})(?:/tree/({part}(?:/{part})*))?/?", name)
    if not found:
        allowed = "https://github.com/OWNER/NAME, with /tree/BRANCH where the branch is not main"
        raise ConfigError(f"{VARIABLE}: {name!r} is not allowed; allowed: {allowed}")
    return found[1].removesuffix(".git"), found[2] or "main"


def _link(app: Sphinx, config: Config) -> None:
    """Have the theme make its buttons, which are the theme's options."""
    if config.vggkit_repository:
        url, branch = parse(config.vggkit_repository)
        buttons = dict.fromkeys(("use_repository_button", "use_edit_page_button", "use_issues_button"), True)
        place = {"repository_url": url, "repository_branch": branch, "path_to_docs": "book"}
        config.html_theme_options = config.html_theme_options | place | buttons | {"launch_buttons": LAUNCH}


def _tell_how_to_launch(app: Sphinx, page: str, source: list[str]) -> None:
    if app.config.vggkit_repository and page == HOW_TO_RERUN:
        url, branch = parse(app.config.vggkit_repository)
        source[0] += LAUNCHING.format(url=url, branch=branch)


def _launch_notebooks_alone(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object) -> None:
    """Take the launch buttons from pages of text with executed cells: Colab opens nothing but notebooks."""
    if context.get("page_source_suffix") != ".ipynb" and "header_buttons" in context:
        context["header_buttons"] = [b for b in context["header_buttons"] if b.get("label") != "launch-buttons"]


def _lead_to_notebook(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object) -> None:
    """Below a notebook's page, links to where it can be read, run and had: the buttons' aims, in words."""
    if app.config.vggkit_repository and context.get("page_source_suffix") == ".ipynb":
        links = " · ".join(f'<a href="{href}">{name}</a>' for name, href in notebook_links(app, page).items())
        context["body"] = f'{context.get("body", "")}<p class="vggkit-downloads">This notebook: {links}</p>'


def notebook_links(app: Sphinx, page: str) -> dict[str, str]:
    """The addresses of a page's notebook: in the repository, on Binder and Colab, and of its source in the book."""
    url, branch = parse(app.config.vggkit_repository)
    place = url.removeprefix("https://github.com/")
    path = f"book/{page}.ipynb"
    return {
        "in the repository": f"{url}/blob/{branch}/{path}",
        "on Binder": f"{LAUNCH['binderhub_url']}/v2/gh/{place}/{quote(branch, safe='')}?urlpath=lab/tree/{path}",
        "on Colab": f"{LAUNCH['colab_url']}/github/{place}/blob/{branch}/{path}",
        "download": f"{'../' * page.count('/')}_sources/{page}.ipynb",
    }
