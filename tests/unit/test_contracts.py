"""Names that dashboards, scripts and users' files rely on: added to freely, never renamed.

Those of metrics are in tests/unit/metrics/test_catalogue.py, those of /status in
tests/unit/elastic/test_coordinator.py; tests/integration reads the files of whole runs.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from operators.api import Phase, TrainingRunStatus
from operators.caches import Caches
from operators.metrics import Metrics
from trainer.checkpoint.attempts import AttemptClaim, PreviousEnd
from trainer.checkpoint.config import CheckpointConfig
from trainer.checkpoint.layout import Committed, FileEntry
from trainer.config import RunConfig
from trainer.data.shards import DatasetInfo, ShardInfo, SplitInfo, TokenizerRecord
from trainer.elastic.reasons import Reason

ROOT = Path(__file__).parents[2]
KEYS: dict[type[BaseModel], str] = {
    RunConfig: "name seed steps epochs tokens model sequence_length batch data precision parallel optimizer schedule "
    "checkpoint resume elastic log evaluate trackers task",
    CheckpointConfig: "store every_steps every_seconds keep",
    AttemptClaim: "format attempt nonce started_at world_size hosts image git_commit config_sha256 base_checkpoint "
    "previous_end",
    PreviousEnd: "reason counted message",
    Committed: "format nonce run step tokens epoch attempt world_size loss validation_loss config_sha256 model_sha256 "
    "dataset_sha256 tokenizer_sha256 committed_at duration_seconds bytes files",
    FileEntry: "bytes sha256",
    DatasetInfo: "format name fingerprint tokenizer dtype splits sources filters created_at",
    TokenizerRecord: "name fingerprint vocab_size eos_id",
    SplitInfo: "tokens documents shards",
    ShardInfo: "file documents tokens text_bytes sha256",
}
STATUS = (
    "phase conditions workers step stepsTotal loss tokensPerSecond mfu goodput lastCheckpoint restarts attempt "
    "estimatedCompletion observedGeneration"
)
VALUES = {
    "": "backend run image workers gpu nodePool store coordinator scheduling lifecycle network monitoring policy jobs "
    "security",
    "image": "repository tag digest pullPolicy pullSecrets",
    "workers": "replicas min max resources env shm ephemeralStorage",
    "gpu": "product perWorker pricePerHour currency",
    "nodePool": "selector tolerations affinity topologySpread priorityClassName",
    "store": "url secretName serviceAccountAnnotations",
    "scheduling": "queueName schedulerName gang",
    "lifecycle": "gracePeriodSeconds backoffLimit ttlSecondsAfterFinished activeDeadlineSeconds suspend",
    "network": "env hostNetwork policy",
    "monitoring": "serviceMonitor rules dashboards",
    "policy": "enabled restart hang nodeLoss capacity",
    "jobs": "prepare evaluate export tensorboard preflight",
}
PHASES = "Pending Starting Running Draining Suspended Succeeded Failed"
REASONS = (
    "Preempted Scaled WorkerFailed NodeLost Hung NonFiniteLoss StoreUnavailable ConfigInvalid BudgetExhausted "
    "Suspended CoordinatorLost OutOfMemory"
)
TARGETS = (
    "help run test check generate clean bench compare faults images cluster-up cluster-down test-cluster "
    "test-cluster-full test-gpu docs"
)


@pytest.mark.parametrize("model", KEYS, ids=lambda model: model.__name__)
def test_no_key_of_a_document_is_missing(model: type[BaseModel]) -> None:
    assert set(KEYS[model].split()) <= model.model_fields.keys()


def test_words_of_a_run() -> None:
    assert {phase.value for phase in Phase} == set(PHASES.split())
    assert {reason.value for reason in Reason} >= set(REASONS.split())


def test_no_field_of_a_training_runs_status_is_missing() -> None:
    names = {field.alias or name for name, field in TrainingRunStatus.model_fields.items()}
    assert set(STATUS.split()) <= names


@pytest.mark.parametrize("section", VALUES)
def test_no_value_of_the_runs_chart_is_missing(section: str) -> None:
    values = yaml.safe_load((ROOT / "charts" / "gpt-run" / "values.yaml").read_text())
    assert set(VALUES[section].split()) <= (values[section] if section else values).keys()


def test_no_metric_of_the_operator_is_missing() -> None:
    metrics = Metrics()
    metrics.follow(Caches(lambda *_: None), lambda: True)
    names = {metric.name for metric in metrics.registry.collect()}
    assert names >= {
        "gptrun_operator_runs",
        "gptrun_operator_actions",
        "gptrun_operator_decision_seconds",
        "gptrun_operator_reconcile_errors",
    }


def test_no_target_of_make_is_missing() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(TARGETS.split()) <= targets
