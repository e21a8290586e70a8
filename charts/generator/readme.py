"""Makes a chart's README from values.yaml: how it is used, and every value with its default and meaning."""

from __future__ import annotations

import json
from typing import Any

from charts.generator.values import Entry

_RUN = """\
# gpt-run

One pretraining run of a GPT-style model on GPU nodes that come and go: a PyTorchJob or a RayJob, the coordinator where
its workers meet, and what belongs to them. The release's name is the run's name. Generated from `values.yaml` by
`make generate`; how to work with a run is in [docs/kubernetes.md](../../docs/kubernetes.md).

```text
helm install gpt-run charts/gpt-run -f charts/gpt-run/values-h100.yaml \\
  --set store.url=s3://BUCKET/runs --set run.data.train=s3://BUCKET/data/gpt-1b --timeout 15m
```

Needed in the cluster: Kubernetes 1.27 or newer and, for `backend: pytorchjob`, Kubeflow's training operator 1.9, for
`backend: rayjob`, KubeRay 1.6. Values files:

"""
_PLATFORM = """\
# gpt-platform

What a cluster needs once, beside any number of runs: the definition of TrainingRun and the operator that keeps runs
alive and elastic; guards, by which the API server refuses what would end a run; priority classes, quotas and Kueue's
queues; metrics of all runs scraped by one ServiceMonitor, alerts and recorded series, Grafana dashboards, the counters
for dcgm-exporter. Each part is switched by a value. Generated from `values.yaml` by `make generate`; fields of a
TrainingRun are in [docs/reference/trainingrun.md](../../docs/reference/trainingrun.md), metrics and dashboards in
[docs/observability.md](../../docs/observability.md), what the guards are and why in
[docs/decisions/guards.md](../../docs/decisions/guards.md).

```text
helm install gpt-platform charts/gpt-platform --namespace gpt-run-system --create-namespace
```

Needed: Kubernetes 1.30 or newer (1.27 with `guards.enabled=false`). The operator's image has the chart's version; give
`operator.image.digest` to have one that no registry can change. An upgrade brings the definition of TrainingRun along;
uninstalling leaves it and all TrainingRuns in the cluster (`crds.keep`).

For metrics and dashboards alone: `--set crds.enabled=false,operator.enabled=false,guards.enabled=false`.

"""


def readme_text(chart: str, entries: list[Entry]) -> str:
    """The whole file of a chart."""
    return (_PLATFORM if chart == "gpt-platform" else _RUN + _values_files()) + _values(entries)


def _values_files() -> str:
    # Late: the values files' descriptions come from the same table that writes them.
    from charts.generator.runs import RUNS

    lines = [f"| `{run.file}` | {run.description} |" for run in RUNS]
    return "\n".join(["| file | run |", "| --- | --- |", *lines]) + "\n\n"


def _values(entries: list[Entry]) -> str:
    top = [entry for entry in entries if not entry.is_section]
    sections = [entry for entry in entries if entry.is_section]
    body = ["## Values"] + (["", *_table(top, "")] if top else [])
    for section in sections:
        body += ["", f"### `{section.key}`", "", section.description, "", *_table(section.children, f"{section.key}.")]
    return "\n".join(body) + "\n"


def _table(entries: list[Entry], prefix: str) -> list[str]:
    return ["| value | default | meaning |", "| --- | --- | --- |", *_rows(entries, prefix)]


def _rows(entries: list[Entry], prefix: str) -> list[str]:
    rows = []
    for entry in entries:
        path = f"{prefix}{entry.key}"
        if entry.is_section:
            rows.append(f"| `{path}` | | {_cell(entry.description)} |")
            rows += _rows(entry.children, f"{path}.")
        else:
            rows.append(
                f"| `{path}` | `{json.dumps(entry.default)}` | {_cell(entry.description)}{_words(entry.hint)} |"
            )
    return rows


def _words(hint: dict[str, Any]) -> str:
    """Limits that the description leaves to the schema."""
    limits = [f"{words} {hint[key]}" for key, words in (("minimum", "at least"), ("maximum", "at most")) if key in hint]
    return f" ({', '.join(limits)})" if limits else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
