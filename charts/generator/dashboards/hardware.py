"""Dashboard of nodes and GPUs: dcgm-exporter's and node-exporter's metrics, where a node has none the trainer's own."""

from __future__ import annotations

from charts.generator.dashboards.board import NAMESPACE, RUNS, Board, Variable
from charts.generator.dashboards.panels import Panel, Query, Row, lines, stat
from charts.generator.dashboards.queries import RUNS as SELECTOR
from charts.generator.dashboards.queries import on_node, per_gpu, per_node

_MIB = " * 1048576"
_GPU = "{{node}} GPU {{gpu}}"
_ON_DCGM = " Needs dcgm-exporter with the platform chart's counters."
_NODES = (
    f"query_result(count by (node) (trainer_node_cpu_ratio{{{SELECTOR}}} "
    'or label_replace(DCGM_FI_DEV_GPU_UTIL, "node", "$1", "Hostname", "(.+)")))'
)


def board() -> Board:
    """The dashboard."""
    return Board(
        uid="gpt-run-hardware",
        title="gpt-run / Hardware",
        description="Every GPU and node: use, memory, power, temperature, faults, network.",
        variables=[
            NAMESPACE,
            RUNS,
            Variable("node", "Node", _NODES, several=True, regex='/node="([^"]+)"/'),
        ],
        rows=[
            Row("Now", _now()),
            Row("Work of the GPUs", _work()),
            Row("Memory, power, temperature", _state()),
            Row("Faults", _faults()),
            Row("Nodes and network", _nodes()),
        ],
        since="now-3h",
    )


def _use() -> str:
    return per_gpu("DCGM_FI_DEV_GPU_UTIL", " / 100", "trainer_gpu_utilization_ratio")


def _power() -> str:
    return per_gpu("DCGM_FI_DEV_POWER_USAGE", "", "trainer_gpu_power_watts")


def _temperature() -> str:
    return per_gpu("DCGM_FI_DEV_GPU_TEMP", "", "trainer_gpu_temperature_celsius")


def _now() -> list[Panel]:
    return [
        stat("GPUs", "Those that are seen on the chosen nodes.", "short", Query(f"count({_use()})")),
        stat("Utilization", "Mean over the GPUs.", "percentunit", Query(f"avg({_use()})"), decimals=0),
        stat("Power", "Of all GPUs together.", "watt", Query(f"sum({_power()})"), decimals=1),
        stat(
            "Hottest GPU",
            "Most GPUs slow down at 85 to 90 degrees.",
            "celsius",
            Query(f"max({_temperature()})"),
            thresholds=((None, "green"), (80, "orange"), (88, "red")),
        ),
        stat(
            "XID errors",
            f"Errors that the driver has reported within the last minutes.{_ON_DCGM}",
            "short",
            Query(f"sum({on_node('DCGM_EXP_XID_ERRORS_COUNT')}) or 0 * count({on_node('DCGM_FI_DEV_XID_ERRORS')})"),
            thresholds=((None, "green"), (1, "red")),
            runbook="GptRunNewXid",
        ),
        stat(
            "Rows that could not be replaced",
            f"GPUs whose broken memory has no spare left: take them out.{_ON_DCGM}",
            "short",
            Query(f"sum({on_node('DCGM_FI_DEV_ROW_REMAP_FAILURE')})"),
            thresholds=((None, "green"), (1, "red")),
            runbook="GptRunNewXid",
        ),
    ]


def _work() -> list[Panel]:
    return [
        lines(
            "Utilization",
            "Share of time in which some kernel ran. High with low SM activity: small kernels, or waits in NCCL.",
            "percentunit",
            Query(_use(), _GPU),
            most=1,
        ),
        lines(
            "SM activity",
            f"Share of cycles in which a multiprocessor had work; above 80% is a GPU well used.{_ON_DCGM}",
            "percentunit",
            Query(per_gpu("DCGM_FI_PROF_SM_ACTIVE", ""), _GPU),
            most=1,
        ),
        lines(
            "Tensor activity",
            f"Share of cycles in which the tensor cores worked: what model FLOP utilization comes from.{_ON_DCGM}",
            "percentunit",
            Query(per_gpu("DCGM_FI_PROF_PIPE_TENSOR_ACTIVE", ""), _GPU),
            most=1,
        ),
        lines(
            "Memory traffic",
            f"Share of cycles in which memory was read or written; near 80% memory is what holds the run up.{_ON_DCGM}",
            "percentunit",
            Query(per_gpu("DCGM_FI_PROF_DRAM_ACTIVE", ""), _GPU),
            most=1,
        ),
    ]


def _state() -> list[Panel]:
    return [
        lines(
            "Memory in use",
            "Of each GPU, by all processes on it.",
            "bytes",
            Query(per_gpu("DCGM_FI_DEV_FB_USED", _MIB, "trainer_gpu_memory_used_bytes"), _GPU),
            span=8,
        ),
        lines("Power", "Of each GPU. One far below the others waits for them.", "watt", Query(_power(), _GPU), span=8),
        lines(
            "Temperature",
            "Of each GPU.",
            "celsius",
            Query(_temperature(), _GPU),
            thresholds=((None, "green"), (80, "orange"), (88, "red")),
            span=8,
        ),
        lines(
            "Clock",
            f"Of the multiprocessors. One below the others makes all wait.{_ON_DCGM}",
            "hertz",
            Query(per_gpu("DCGM_FI_DEV_SM_CLOCK", " * 1e6"), _GPU),
            runbook="GptRunStraggler",
        ),
        lines(
            "Reasons to slow down",
            "Why clocks were held down, by how often it was seen in five minutes. An idle GPU is no "
            f"trouble.{_ON_DCGM}",
            "short",
            Query(
                f"max by (node, gpu, clock_event) ({on_node('DCGM_EXP_CLOCK_EVENTS_COUNT')})",
                _GPU + " {{clock_event}}",
            ),
        ),
    ]


def _faults() -> list[Panel]:
    return [
        lines(
            "XID errors",
            f"By code, as counted within five minutes. 48, 63, 64, 74, 79, 94, 95: take the node out.{_ON_DCGM}",
            "short",
            Query(f"max by (node, gpu, xid) ({on_node('DCGM_EXP_XID_ERRORS_COUNT')})", _GPU + " XID {{xid}}"),
            thresholds=((None, "green"), (1, "red")),
            runbook="GptRunNewXid",
            bars=True,
            span=8,
        ),
        lines(
            "Memory errors",
            f"Since the driver was loaded: corrected ones are common, uncorrected ones end the process.{_ON_DCGM}",
            "short",
            Query(per_gpu("DCGM_FI_DEV_ECC_SBE_VOL_TOTAL", ""), _GPU + " corrected"),
            Query(per_gpu("DCGM_FI_DEV_ECC_DBE_VOL_TOTAL", ""), _GPU + " uncorrected"),
            Query(per_gpu("DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS", ""), _GPU + " rows replaced"),
            runbook="GptRunNewXid",
            span=8,
        ),
        lines(
            "PCIe transfers repeated",
            f"Within the last minutes; more than a few: a bad slot or riser.{_ON_DCGM}",
            "short",
            Query(
                f"round(max by (node, gpu) ({on_node('DCGM_FI_DEV_PCIE_REPLAY_COUNTER', '$__rate_interval')}))", _GPU
            ),
            bars=True,
            span=8,
        ),
    ]


def _nodes() -> list[Panel]:
    idle = 'avg by (instance) (rate(node_cpu_seconds_total{mode="idle"}[$__rate_interval]))'
    used = "max by (instance) (node_memory_MemTotal_bytes - node_memory_MemAvailable_bytes)"
    network = (
        'sum by (instance) (rate(node_network_receive_bytes_total{device!~"lo|veth.*|cali.*|cni.*"}[$__rate_interval]) '
        '+ rate(node_network_transmit_bytes_total{device!~"lo|veth.*|cali.*|cni.*"}[$__rate_interval]))'
    )
    disk = 'min by (instance) (node_filesystem_avail_bytes{fstype!~"tmpfs|overlay|squashfs|ramfs", mountpoint="/"})'
    return [
        lines(
            "CPU",
            "Share of the node's cores in use.",
            "percentunit",
            Query(per_node(f"1 - {idle}", "trainer_node_cpu_ratio"), "{{node}}"),
            most=1,
            span=8,
        ),
        lines(
            "Memory",
            "Of the node, in use.",
            "bytes",
            Query(per_node(used, "trainer_node_memory_used_bytes"), "{{node}}"),
            span=8,
        ),
        lines(
            "Disk left",
            "Of the node's root, or of the run's cache: remote shards and snapshots lie there.",
            "bytes",
            Query(per_node(disk, "trainer_node_disk_free_bytes"), "{{node}}"),
            span=8,
        ),
        lines(
            "Network",
            "Both directions of the node's own interfaces. RDMA goes past it.",
            "Bps",
            Query(per_node(network, "trainer_node_network_bytes_per_second"), "{{node}}"),
            span=8,
        ),
        lines(
            "PCIe",
            f"Both directions, by GPU.{_ON_DCGM}",
            "Bps",
            Query(_both("DCGM_FI_PROF_PCIE_TX_BYTES", "DCGM_FI_PROF_PCIE_RX_BYTES"), _GPU),
            span=8,
        ),
        lines(
            "NVLink",
            f"Both directions, by GPU.{_ON_DCGM}",
            "Bps",
            Query(_both("DCGM_FI_PROF_NVLINK_TX_BYTES", "DCGM_FI_PROF_NVLINK_RX_BYTES"), _GPU),
            span=8,
        ),
    ]


def _both(sent: str, received: str) -> str:
    return f"{per_gpu(sent, '')} + {per_gpu(received, '')}"
