"""Print what an image installs before the code: groups of requirements of pyproject.toml, one requirement a line.

Run inside the Containerfiles, `python3 requirements.py dependencies s3 gcs`, in a stage of its own: the layer with the
dependencies is then keyed by this output and constraints.txt, and an edit elsewhere in pyproject.toml leaves it alone.
`dependencies` is the project's own list; every other name is an extra. The operator's image takes extras only.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def requirements(project: dict[str, Any], groups: Sequence[str]) -> list[str]:
    """The requirements of these groups in order, each once; ends the process in words if a group cannot be taken."""
    known = {"dependencies": project["dependencies"], **project.get("optional-dependencies", {})}
    found: dict[str, None] = {}
    for group in groups:
        if group not in known:
            sys.exit(f"pyproject.toml has no extra {group!r}; it has {', '.join(sorted(known))}")
        for requirement in known[group]:
            # pip would look for the project itself in the package index.
            if requirement.startswith(f"{project['name']}["):
                sys.exit(f"the extra {group!r} refers to the project itself ({requirement}): name its extras instead")
            found[requirement] = None
    return list(found)


if __name__ == "__main__":
    with Path("pyproject.toml").open("rb") as file:
        print("\n".join(requirements(tomllib.load(file)["project"], sys.argv[1:] or ["dependencies"])))
