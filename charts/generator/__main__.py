"""Write the generated files of charts/ and manifests/; `--check` fails if one of them is not what it should be.

Run by `make generate` and `make check`. Schemas, READMEs, values files and dashboards need nothing but this package and
the `dashboards` extra; the manifests are rendered by helm, from `--helm PATH` or the `helm` on PATH, and left out with
a word where there is none.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from charts.generator import manifests, readme, runs, schema
from charts.generator.dashboards.files import dashboard_files
from charts.generator.values import CHART, PLATFORM, ROOT, read_values
from operators import crd

# Helm reads no file outside of a chart, so the rules that both have are copied: kept in the platform's.
SHARED = ("files/rules/run.yaml", "templates/_rules.tpl")
# Not in crds/, which Helm never upgrades: templates/crd.yaml takes it from here.
CRD = PLATFORM / "files" / "crds" / f"{crd.NAME}.yaml"


def main() -> None:
    """Write or check every generated file."""
    parser = argparse.ArgumentParser(description="Write the generated files of charts/ and manifests/.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file is not up to date")
    parser.add_argument("--helm", default=shutil.which("helm"), help="helm 3, which renders manifests/")
    options = parser.parse_args()
    files = chart_files()
    # The manifests are rendered with the schema and the values files that were just written.
    stale = out_of_date(files) if options.check else write(files)
    if options.helm is None:
        print("manifests/ left as they are: no helm on PATH, and no --helm", file=sys.stderr)
    else:
        rendered = manifests.render(Path(options.helm))
        stale += out_of_date(rendered) if options.check else write(rendered)
    if stale:
        sys.exit(f"not up to date: {', '.join(stale)}; run `make generate` and commit the result")


def chart_files() -> dict[Path, str]:
    """What is generated inside the charts: path -> text."""
    files = {CHART / name: text for name, text in runs.values_files().items()}
    files |= {CHART / name: (PLATFORM / name).read_text(encoding="utf-8") for name in SHARED}
    files[CRD] = manifests.dump(crd.document())
    # A chart can read no file of another, so both carry the dashboards.
    dashboards = dashboard_files()
    for chart in (CHART, PLATFORM):
        entries = read_values(chart / "values.yaml")
        files[chart / "values.schema.json"] = schema.schema_text(chart.name, entries)
        files[chart / "README.md"] = readme.readme_text(chart.name, entries)
        files |= {chart / name: text for name, text in dashboards.items()}
    return files


def write(files: dict[Path, str]) -> list[str]:
    """Write all; nothing is out of date then."""
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return []


def out_of_date(files: dict[Path, str]) -> list[str]:
    """Names of the files that differ from what they should be."""
    return [
        path.relative_to(ROOT).as_posix()
        for path, text in files.items()
        if not path.is_file() or path.read_text(encoding="utf-8") != text
    ]


if __name__ == "__main__":
    main()
