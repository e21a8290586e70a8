"""Find dead links, stale commands and undocumented values in every page that git tracks. Run by `make check`."""

from __future__ import annotations

import sys
from pathlib import Path

from docs.check.commands import check_commands
from docs.check.documented import check_documented
from docs.check.links import check_links
from docs.check.pages import Tree


def main() -> None:
    """Prints what was found as `file:line: ...`; exits with 1 if there was anything."""
    tree = Tree(Path(__file__).parents[2])
    findings = [*check_links(tree), *check_commands(tree), *check_documented(tree)]
    for finding in sorted(findings, key=lambda finding: (finding.path, finding.line)):
        print(finding, file=sys.stderr)
    if findings:
        sys.exit(f"{len(findings)} things to mend in the pages or in what they speak of")


if __name__ == "__main__":
    main()
