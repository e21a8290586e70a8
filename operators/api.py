"""`gptrun.io/v1alpha1 TrainingRun`: its spec and status as pydantic models, from which the CRD's schema is generated.

Changes are additive: a field once released keeps its name, type and meaning. Rules on one field stand with the field;
rules on two are CEL, in `operators.crd`, for the API server enforces both before the operator sees anything.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

GROUP, VERSION = "gptrun.io", "v1alpha1"
KIND, PLURAL, SINGULAR, SHORT_NAME = "TrainingRun", "trainingruns", "trainingrun", "tr"
COMPONENT_LABEL = "gptrun.io/component"
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"

Count = Annotated[int, Field(ge=0)]
Seconds = Annotated[int, Field(ge=0)]


class Model(BaseModel):
    """Written in camelCase. What a newer version of the CRD knows and this one does not is passed over."""

    model_config = ConfigDict(
        frozen=True,
        extra="ignore",
        use_attribute_docstrings=True,
        validate_default=True,
        alias_generator=to_camel,
        populate_by_name=True,
    )


class JobKind(StrEnum):
    """Kinds of job that a run can be; each has its class in `operators.backends`."""

    PYTORCH_JOB = "PyTorchJob"
    RAY_JOB = "RayJob"


API_VERSIONS = {JobKind.PYTORCH_JOB: "kubeflow.org/v1", JobKind.RAY_JOB: "ray.io/v1"}


class JobRef(Model):
    """The job that trains, in the TrainingRun's own namespace."""

    api_version: Annotated[str, Field(max_length=63)]
    """`kubeflow.org/v1` or `ray.io/v1`."""
    kind: JobKind
    """PyTorchJob or RayJob."""
    name: Annotated[str, Field(min_length=1, max_length=63)]
    """The job's `metadata.name`."""


class Capacity(Model):
    """Following the room that the cluster has."""

    enabled: bool = False
    """Grow when room appears, shrink when pods stay Pending. Never done to a job that Kueue manages."""
    pending_seconds: Annotated[int, Field(ge=1)] = 900
    """Seconds that a pod must be Pending before the run shrinks: longer than a node takes to come."""
    grow_seconds: Seconds = 60
    """Seconds that room must last before the run grows."""


class Elastic(Model):
    """How many worker pods the run may have."""

    min: Annotated[int, Field(ge=1)] = 1
    """The run needs as many."""
    max: Annotated[int, Field(ge=1)]
    """It never has more."""
    capacity: Capacity = Capacity()
    """Following the room that the cluster has."""


class Restart(Model):
    """What a run may fail before it is given up. Preemptions, scaling and lost nodes are no failures."""

    failures: Count = 3
    """Failures within the window that are tried again."""
    window_seconds: Annotated[int, Field(ge=1)] = 3600
    """Length of the window, seconds."""


class HangAction(StrEnum):
    """What is done about a silent launcher."""

    REPLACE = "Replace"
    REPORT = "Report"


class Hang(Model):
    """A launcher whose container runs and which says nothing to the coordinator."""

    seconds: Seconds = 120
    """Seconds of silence after which something is done; 0 leaves it alone."""
    action: HangAction = HangAction.REPLACE
    """Replace deletes the pod, Report only sets the condition."""


class NodeLoss(Model):
    """Pods on a node that is gone stay Terminating for ever."""

    seconds: Seconds = 5
    """Seconds after the node's NotReady until its pods are deleted by force, so that others come in their place; 0
    leaves them alone. A pod whose launcher still answers the coordinator is never deleted by force."""


class Completion(Model):
    """What becomes of the job when the run has succeeded."""

    delete_after_seconds: Seconds | None = None
    """Seconds after which the job is deleted; null keeps it. The TrainingRun and the checkpoints stay."""


class TrainingRunSpec(Model):
    """What a run shall be."""

    job_ref: JobRef
    """The job that trains."""
    elastic: Elastic
    """How many worker pods the run may have."""
    replicas: Count | None = None
    """Worker pods wanted, set by `kubectl scale`; null takes the job's own count, or `elastic.max` where capacity is
    followed."""
    suspend: bool = False
    """Save and give the nodes back. Set to false again, the run goes on where it was; what somebody else suspended
    stays suspended."""
    restart: Restart = Restart()
    """What a run may fail before it is given up."""
    hang: Hang = Hang()
    """A launcher that says nothing."""
    node_loss: NodeLoss = NodeLoss()
    """Pods on a node that is gone."""
    completion: Completion = Completion()
    """What becomes of the job when the run has succeeded."""


class Phase(StrEnum):
    """Where a run stands."""

    PENDING = "Pending"
    STARTING = "Starting"
    RUNNING = "Running"
    DRAINING = "Draining"
    SUSPENDED = "Suspended"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


class ConditionType(StrEnum):
    """Conditions of a TrainingRun."""

    READY = "Ready"
    """The operator can look after this run: its job is there, and nobody else's."""
    PROGRESSING = "Progressing"
    """Steps are being done, or will be without anybody's help."""
    CHECKPOINTED = "Checkpointed"
    """There is a checkpoint to go on from."""
    HEALTHY = "Healthy"
    """Nothing that a person should look at; Unknown while the coordinator does not answer."""
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


class ConditionReason(StrEnum):
    """Why a condition is what it is; `ActionReason` has those of Events."""

    # Ready
    WATCHING = "Watching"
    REPLICAS_CAPPED = "ReplicasCapped"
    JOB_NOT_FOUND = "JobNotFound"
    JOB_ELSEWHERE = "JobInOtherNamespace"
    JOB_DELETING = "JobDeleting"
    JOB_DELETED = "JobDeleted"
    JOB_TAKEN = "JobTaken"
    KIND_NOT_SERVED = "KindNotServed"
    BOUNDS_INVALID = "BoundsInvalid"
    INVALID = "Invalid"
    # Progressing
    TRAINING = "Training"
    STARTING = "Starting"
    WAITING_FOR_PODS = "WaitingForPods"
    WAITING_FOR_ROOM = "WaitingForRoom"
    CANNOT_START = "ContainerCannotStart"
    NOT_READY = "NotReady"
    # Suspended by this operator, as in Suspension.reason, or by others
    SUSPENDED = "Suspended"
    CONFIG_INVALID = "ConfigInvalid"
    BUDGET_EXHAUSTED = "BudgetExhausted"
    SUSPENDED_BY_OTHERS = "SuspendedByOthers"
    QUEUE_OVERRULES = "QueueOverrules"
    # Checkpointed
    COMMITTED = "Committed"
    NO_CHECKPOINT = "NoCheckpoint"
    # Healthy
    FORBIDDEN = "Forbidden"
    REFUSED = "Refused"
    ALL_WELL = "AllWell"
    COORDINATOR_SILENT = "CoordinatorSilent"
    LAUNCHER_SILENT = "LauncherSilent"
    LAUNCHERS_SILENT = "AllLaunchersSilent"
    NODE_LOST = "NodeLost"
    # Succeeded, Failed
    COMPLETED = "Completed"
    JOB_FAILED = "JobFailed"
    NOT_FINISHED = "NotFinished"


class Condition(Model):
    """As the Kubernetes API conventions have it."""

    type: str
    """What is said, such as Ready or Healthy: docs/reference/operator-decisions.md lists them."""
    status: str
    """True, False or Unknown."""
    reason: str
    """One word in CamelCase."""
    message: str = ""
    """What a person should know, and do."""
    last_transition_time: datetime
    """When `status` became what it is."""
    observed_generation: int = 0
    """Generation of the spec that this was said of."""


class CheckpointStatus(Model):
    """The newest checkpoint that was committed."""

    name: str
    """Its folder in the run's, such as step-00000250-a0001."""
    step: int
    """Optimizer steps that it has behind it."""
    time: datetime | None = None
    """When it was committed, by the coordinator's clock; null where that was not said."""
    url: str = ""
    """Where it is in the store."""


class RestartCount(Model):
    """How often attempts ended for one reason, over the run's life."""

    reason: str
    """One word in CamelCase, such as NodeLost."""
    count: int
    """Attempts that ended so."""


class Suspension(Model):
    """That this operator suspended the job, and why: only what it suspended does it resume."""

    reason: str
    """`Suspended` (spec.suspend), `ConfigInvalid` or `BudgetExhausted`."""
    message: str = ""
    """What a person should know, and do."""
    time: datetime
    """When the operator suspended it."""
    generation: int
    """Of the TrainingRun, when it was suspended."""
    template: str = ""
    """What the job's pods were made of then; a job that was changed since is tried again."""
    job_uid: str = ""
    """Of the job that was suspended; another of its name knows nothing of it."""
    decided_at_job_generation: int = 0
    """The job's when this was decided, which was running then: news of an earlier one are old."""
    job_generation: int = 0
    """The job's when it was last seen suspended; 0: not yet. Running in a later one, it was resumed; in an earlier one,
    the news is old."""
    overruled: bool = False
    """Its queue's manager has started the job all the same: it is not suspended a second time."""


class Failures(Model):
    """What is needed to count every failure once."""

    times: list[datetime] = []
    """Those within the window, oldest first; no more than the budget and one."""
    seen: dict[str, int] = {}
    """Failures counted so far by source: `pod/UID` (container restarts), `coordinator/UID/REASON`."""
    last_error: str = ""
    """Of the newest."""
    verdict_time: datetime | None = None
    """By the coordinator's clock, of its newest word that the run is over; only a later one is news."""


class CapacityStatus(Model):
    """How following the room went."""

    changed_at: datetime
    """When the number of pods was last changed for it; the wait for room begins no earlier."""
    grew: bool = False
    """That this was a growth, and it is too early to say whether its pods found room."""
    limit: int
    """Worker pods that it was changed to."""
    limit_of: int | None = None
    """The `spec.replicas` then; another wish than that is tried in full."""
    job_generation: int
    """The job's then: while it is still this, the change is yet to be made."""


class TrainingRunStatus(Model):
    """What the operator last saw. What the coordinator said stays when no pod runs."""

    phase: Phase = Phase.PENDING
    """Where the run is, in one word, for people; programs read the conditions."""
    conditions: list[Condition] = []
    observed_generation: int = 0
    """Generation of the spec that this status was made from."""
    workers: int | None = None
    """Worker pods that the job asks for; what `kubectl get --subresource=scale` shows."""
    selector: str = ""
    """Label selector of the workers, for the scale subresource."""
    step: int | None = None
    """The last optimizer step that was done."""
    steps_total: int | None = None
    """Steps of the whole run."""
    loss: float | None = None
    """Training loss of the last step that was logged, in nats per token."""
    tokens_per_second: float | None = None
    """Tokens trained on per second, by all workers together."""
    mfu: float | None = None
    """Model FLOP utilization, 0 to 1."""
    goodput: float | None = None
    """Share of the run's life in which training made progress that lasted, 0 to 1."""
    last_checkpoint: CheckpointStatus | None = None
    restarts: list[RestartCount] = []
    attempt: int | None = None
    """Number of the newest attempt, counted from 1."""
    estimated_completion: datetime | None = None
    """When the last step will be done at the speed of now."""
    suspension: Suspension | None = None
    failures: Failures = Failures()
    capacity: CapacityStatus | None = None
    growth_failures: int = 0
    """Times in a row that pods added for room found none; each doubles the wait for the next."""


class TrainingRun(Model):
    """A run, as far as the operator reads it."""

    namespace: str
    name: str
    uid: str
    generation: int
    resource_version: str
    created_at: datetime
    deleting: bool = False
    spec: TrainingRunSpec
    status: TrainingRunStatus = TrainingRunStatus()


def parse(body: dict[str, Any]) -> TrainingRun:
    """A TrainingRun of the API server's JSON. pydantic.ValidationError where an older CRD let something through."""
    meta = body["metadata"]
    return TrainingRun(
        namespace=meta["namespace"],
        name=meta["name"],
        uid=meta["uid"],
        generation=meta.get("generation", 0),
        resource_version=meta["resourceVersion"],
        created_at=meta["creationTimestamp"],
        deleting="deletionTimestamp" in meta,
        spec=body["spec"],
        status=body.get("status") or {},
    )
