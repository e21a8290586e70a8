"""templates/kueue/clusterqueue.yaml of the platform."""

from __future__ import annotations

from tests.charts.platform.kueue.queues import H100, values
from tests.charts.rendering import Chart


def test_default_is_none(platform: Chart) -> None:
    assert "ClusterQueue/gpt-run" not in platform.kinds()


def test_switched(platform: Chart) -> None:
    spec = platform.one("ClusterQueue", "gpt-run", values())["spec"]
    assert spec == {
        "namespaceSelector": {},
        "preemption": {"withinClusterQueue": "LowerPriority", "reclaimWithinCohort": "Any"},
        "resourceGroups": [
            {
                "coveredResources": ["cpu", "memory", "nvidia.com/gpu"],
                "flavors": [
                    {"name": "h100", "resources": quota(cpu="1000", memory="8Ti", gpu="64")},
                    {"name": "spot", "resources": quota(cpu="1.5", memory="0", gpu="16")},
                ],
            }
        ],
    }


def test_switched_cohort(platform: Chart) -> None:
    teams = {"matchLabels": {"team": "ml"}}
    more = values(clusterQueue="ml", cohort="all", namespaceSelector=teams)
    spec = platform.one("ClusterQueue", "ml", more)["spec"]
    assert (spec["cohortName"], spec["namespaceSelector"]) == ("all", teams)


def test_refused_no_flavors(platform: Chart) -> None:
    assert "kueue.flavors: empty" in platform.refusal(values(flavors=[]))


def test_refused_other_resources(platform: Chart) -> None:
    said = platform.refusal(values(flavors=[H100, {"name": "cpus", "quota": {"cpu": 8}}]))
    assert 'kueue.flavors: "h100" has quota of cpu, memory, nvidia.com/gpu, "cpus" of cpu' in said


def quota(*, cpu: str, memory: str, gpu: str) -> list[dict[str, str]]:
    """As Kueue has it, in the order of the covered resources."""
    return [
        {"name": name, "nominalQuota": much}
        for name, much in (("cpu", cpu), ("memory", memory), ("nvidia.com/gpu", gpu))
    ]
