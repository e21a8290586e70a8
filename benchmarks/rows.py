"""The rows of the README's table: what is measured, the bar, the script, and how its report is read."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks import figures
from benchmarks.figures import Figure
from benchmarks.recovery import BARS


@dataclass(frozen=True)
class Row:
    """One line of the table; `figure` reads the script's report and says what was measured and whether it is enough."""

    name: str
    what: str
    bar: str
    script: str
    figure: Figure


FASTER = "tokens/s against Accelerate + Transformers, and against a plain loop"
PAUSE = "pause of three machines with a commit every 20 steps, median, steps done again: "
ROWS = [
    Row(
        "resume-exact",
        "killed at a random step and resumed at the same world size (1 and 2), dropout, against a run left alone, "
        "200 steps",
        "losses and batches bitwise equal",
        "resume_exact",
        figures.resume_exact,
    ),
    Row(
        "resume-elastic",
        "world 2 -> 3 -> 1 over stops, batches of 10 sequences, fp32, against a run left alone, 200 steps",
        "same batches, losses within 1e-5",
        "resume_elastic",
        figures.resume_elastic,
    ),
    *(
        Row(
            f"recovery-{number}",
            f"{PAUSE if number == 0 else 'the same: '}{event}",
            f"<= {seconds:g} s" + ("" if lost is None else f", {lost} lost"),
            "recovery",
            figures.recovery(event),
        )
        for number, (event, (seconds, lost)) in enumerate(BARS.items())
    ),
    Row(
        "elastic-soak",
        "500 steps under seeded trouble of all these kinds, clocks 5 s apart, against a run left alone",
        "every batch once, losses within 1e-5, no process left",
        "elastic_soak",
        figures.soak,
    ),
    Row(
        "step-overhead",
        "what elasticity adds to a step of 100 ms, two ranks",
        "< 0.5%",
        "step_overhead",
        figures.overhead,
    ),
    Row(
        "metrics-overhead",
        "what measuring adds to a step of a small GPT-2: time, machines, lines, reports, profiled steps",
        "< 1%",
        "metrics_overhead",
        figures.metrics_overhead,
    ),
    Row(
        "trackers",
        "steps/s with TensorBoard, Weights & Biases (offline) and histograms against none",
        ">= 0.99",
        "trackers",
        figures.trackers,
    ),
    Row(
        "scrape-8",
        "a scrape after 1,000 attempts of 8 (made-up) ranks",
        "<= 200 series, < 50 ms",
        "scrape",
        figures.scrape(8),
    ),
    Row("scrape-1024", "the same: 1,024 ranks", "<= 200 series, < 50 ms", "scrape", figures.scrape(1024)),
    Row(
        "save-async",
        "time added to 20 steps by an asynchronous save, 98M parameters, to an S3 server on the same cores at the "
        "lowest priority",
        "< 5%",
        "save_stall",
        figures.extra_time("async", bar=True),
    ),
    Row("save-sync", "the same by a synchronous save", "", "save_stall", figures.extra_time("sync", bar=False)),
    Row(
        "checkpoint-write",
        "checkpoint write against raw transfer, same bytes and hashing",
        ">= 0.8",
        "checkpoint_io",
        figures.transfer("write"),
    ),
    Row("checkpoint-read", "checkpoint read against raw transfer", ">= 0.8", "checkpoint_io", figures.transfer("read")),
    Row(
        "sft-packing",
        "instruction tuning on packed rows against padded batches, useful tokens/s, docstrings as answers",
        ">= 1.5",
        "sft_packing",
        figures.sft_packing,
    ),
    Row("throughput-1m", f"{FASTER}: 1.2M parameters, fp32", ">= 0.97", "throughput_cpu", figures.throughput("1m")),
    Row("throughput-10m", "the same: 10.6M parameters", ">= 0.97", "throughput_cpu", figures.throughput("10m")),
    Row("throughput-50m", "the same: 51M parameters", ">= 0.97", "throughput_cpu", figures.throughput("50m")),
    Row(
        "generation-1m",
        "generated tokens/s against Transformers' `generate`, one prompt, fp32: 1.2M parameters",
        ">= 1.5",
        "generation",
        figures.generation("1m"),
    ),
    Row("generation-10m", "the same: 10.6M parameters", ">= 1.5", "generation", figures.generation("10m")),
    Row("generation-124m", "the same: 124M parameters", ">= 1.5", "generation", figures.generation("124m")),
    Row(
        "loader", "loader alone, tokens/s per core; memory over 3 epochs", ">= 364,000; flat", "loader", figures.loader
    ),
    Row(
        "loader-cold",
        "loader tokens/s from an S3 server against the faster of mosaicml-streaming and litdata, empty cache",
        ">= 1.0",
        "loader_remote",
        figures.loader_remote("cold"),
    ),
    Row("loader-warm", "the same with a warm cache", ">= 1.0", "loader_remote", figures.loader_remote("warm")),
    Row(
        "seek",
        "from making a loader at step 1,000,000 to its first batch; slowest of one and three sources of 6 and "
        "10,000 shards",
        "< 50 ms",
        "seek",
        figures.seek,
    ),
    Row(
        "logits-gpt2",
        "logits against Transformers, export and import: GPT-2",
        "<= 1e-4",
        "logits_parity",
        figures.parity("gpt2"),
    ),
    Row("logits-llama", "the same: LLaMA", "<= 1e-4", "logits_parity", figures.parity("llama")),
    Row("logits-neox", "the same: GPT-NeoX", "<= 1e-4", "logits_parity", figures.parity("neox")),
    Row(
        "export-memory",
        "peak memory of `gpt-run checkpoints export` beyond the program's own, GPT-2 124M, over the model's bytes",
        "<= 0.75",
        "export_memory",
        figures.export_memory,
    ),
    Row(
        "plan-flops",
        "what `gpt-run plan` says of all presets: parameters against the built model, FLOP against FlopCounterMode",
        "equal; within 1%",
        "plan_flops",
        figures.plan_flops,
    ),
    Row(
        "plan-memory",
        "peak memory of a step against torch's FSDPMemTracker: all presets (2 blocks), shardings, recomputations",
        "within 10%",
        "plan_memory",
        figures.plan_ratios("peaks"),
    ),
    Row(
        "plan-time",
        "time of a step on this machine, fitted on the tiny presets, for held-out models of 8M to 51M parameters",
        "within 15%",
        "plan_time",
        figures.plan_ratios("models"),
    ),
    Row(
        "scaling-law",
        "validation loss that a law fitted to nine small runs foretells for a model three times as large",
        "within 3%",
        "scaling_law",
        figures.scaling_law,
    ),
    Row("encoding", "text to ids, MB/s of one core", "same ids", "encoding", figures.encoding),
    Row(
        "tokenise-and-write",
        "cleaned text on disk to hashed shards, MB/s per core against bare calls of the same engine: `tokenizers`",
        ">= 0.9",
        "tokenise_and_write",
        figures.tokenise_and_write("tokenizers", bar=True),
    ),
    Row(
        "tokenise-and-write-fast",
        "the same: gigatoken, where its ids are proven equal",
        "",
        "tokenise_and_write",
        figures.tokenise_and_write("gigatoken", bar=False),
    ),
    Row(
        "near-duplicates",
        "near-duplicate stage, documents/s against datasketch's MinHashLSH",
        ">= 10; recall and precision at most 0.01 below",
        "near_duplicates",
        figures.near_duplicates,
    ),
    Row(
        "near-duplicates-memory",
        "its peak memory, all processes, on ten times as much text",
        "<= 1.2",
        "near_duplicates",
        figures.near_duplicates_memory,
    ),
    Row(
        "prepare-memory",
        "peak memory of `gpt-run data prepare`, all processes, on ten times as much text",
        "<= 1.2",
        "prepare_memory",
        figures.prepare_memory,
    ),
    Row(
        "whole-pipeline",
        "JSON lines to tokens, MB/s per core against datatrove: rules of Gopher and C4, MinHash, tokenizer",
        ">= 1.0",
        "whole_pipeline",
        figures.whole_pipeline,
    ),
    Row(
        "operator-cpu",
        "operator with 1,000 runs, their jobs and live coordinators: cores",
        "< 1",
        "operator_load",
        figures.operator_load("cores", "{cores:.2f} ({runs} runs, {pods} pods)"),
    ),
    Row(
        "operator-memory",
        "the same: memory",
        "< 500 MB",
        "operator_load",
        figures.operator_load("megabytes", "{megabytes:.0f} MB, at most {most_megabytes:.0f}"),
    ),
    Row(
        "operator-writes",
        "the same: writes per run and status interval (30 s)",
        "<= 1",
        "operator_load",
        figures.operator_load("writes_per_run_and_interval", "{writes_per_run_and_interval:.2f}"),
    ),
    Row(
        "operator-latency",
        "the same: from a change of a TrainingRun to that of its job, p99",
        "< 2 s",
        "operator_load",
        figures.operator_load(
            "event_to_action_p99_seconds",
            "{event_to_action_p99_seconds:.2f} s (median {event_to_action_p50_seconds:.2f})",
        ),
    ),
    Row(
        "operator-kills",
        "operator killed at random moments while runs have trouble, by the API server's audit log",
        "no action lost, none done twice",
        "operator_kills",
        figures.operator_kills,
    ),
    Row(
        "rank-setup",
        "what rank 0 of 1,024 holds of 1.4B parameters and of their moments, over an equal share; its set-up",
        "<= 1.05",
        "rank_setup",
        figures.rank_setup,
    ),
    Row("metadata-full", ".metadata of its checkpoint", "", "checkpoint_metadata", figures.checkpoint_metadata("full")),
    Row(
        "metadata-hybrid",
        "the same, sharded within machines of eight",
        "",
        "checkpoint_metadata",
        figures.checkpoint_metadata("hybrid"),
    ),
    Row(
        "data-order",
        "a rank of 1,024 finds its samples of step 10^9 in three sources of 10,000 shards; all ranks together",
        "< 10 ms; each sample once",
        "data_order_scale",
        figures.data_order_scale,
    ),
    Row(
        "coordinator-form",
        "coordinator, 1,024 simulated launchers that come within 10 s: from the last one to the round",
        "< 5 s",
        "coordinator_load",
        figures.coordinator_load("form_seconds", "{form_seconds:.2f} s"),
    ),
    Row(
        "coordinator-cpu",
        "the same: cores while all train",
        "< 0.5",
        "coordinator_load",
        figures.coordinator_load("cores", "{cores:.2f} ({megabytes:.0f} MB)"),
    ),
    Row(
        "coordinator-status",
        "the same: one /status",
        "< 0.1 s",
        "coordinator_load",
        figures.coordinator_load("status_seconds", "{status_seconds:.3f} s, {status_bytes:,} bytes"),
    ),
    Row(
        "coordinator-reform",
        "the same: one dies, until the other 1,023 are in a round",
        "< 5 s",
        "coordinator_load",
        figures.coordinator_load("reform_seconds", "{reform_seconds:.1f} s"),
    ),
    Row(
        "coordinator-takeover",
        "the same: killed and started anew, until all are back in their round",
        "< 5 s",
        "coordinator_load",
        figures.coordinator_load("takeover_seconds", "{takeover_seconds:.1f} s"),
    ),
    Row(
        "goodput-scale",
        "goodput that `gpt-run plan` expects on 1,024 to 10,000 GPUs, against simulated runs",
        "within 0.01",
        "goodput_scale",
        figures.goodput_scale,
    ),
    Row("make-run", "`make run`, second call", "< 180 s", "make_run", figures.make_run),
    Row(
        "distillation",
        "validation loss of 2 layers of 64 taught by 4 of 128, less alone: 819,200 tokens, learning rate chosen "
        "equally, 3 seeds",
        "lower with each seed",
        "distillation",
        figures.distillation,
    ),
]
