"""Prints what CHANGELOG.md tells of the version that a tag names, for the release's page: release.py v1.2.3.

Exit status 1, with one line that says why, where the tag, the library and the change log do not agree.
"""

import ast
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def version(root: Path) -> str:
    """`vggkit.__version__`, read from the source: nothing of the library is installed yet."""
    for node in ast.parse((root / "vggkit/__init__.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__version__":
            return str(ast.literal_eval(node.value))
    raise ValueError("vggkit/__init__.py: there is no __version__")


def changes(tag: str, root: Path = ROOT) -> str:
    """What CHANGELOG.md tells of the version that `tag` names.

    Raises:
        ValueError: it is not the library's version, or the change log or the citation does not know it.
    """
    own = version(root)
    if tag != f"v{own}":
        raise ValueError(f"tag: {tag!r} is not allowed; allowed: 'v{own}', after vggkit.__version__")
    log = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    found = re.search(rf"^## {re.escape(own)}\b.*\n((?:(?!## ).*\n?)*)", log, re.M)
    if not found or not found[1].strip():
        raise ValueError(f"CHANGELOG.md: tells nothing of {own}; wanted: a section '## {own}'")
    if not re.search(rf"^version: {re.escape(own)}$", (root / "CITATION.cff").read_text(encoding="utf-8"), re.M):
        raise ValueError(f"CITATION.cff: cites another version; wanted: 'version: {own}'")
    return found[1].strip() + "\n"


if __name__ == "__main__":
    try:
        print(changes(sys.argv[1]), end="")
    except ValueError as error:
        sys.exit(f"release: {error}")
