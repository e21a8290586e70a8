"""A little cluster around `decide`: what it sees may be old, what it wants may be refused, and it dies at any point.

Time goes in ticks of five seconds. Everything random comes from one Random, so that a failure comes again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from operators.actions import Action, ActionReason, Decision, DeleteJob, DeletePod, Resume, Scale, Suspend
from operators.api import API_VERSIONS, JobKind, TrainingRun, TrainingRunSpec, TrainingRunStatus
from operators.observed import Coordinator, Error, Exit, Job, Node, Observed, Pod
from tests.unit.operators.pieces import Did, Machine, Operator, Plan, Snapshot, Unit
from trainer.elastic.reasons import Reason

TICK = timedelta(seconds=5)
BEGIN = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
MOST_LAG = 4
EVICTED_AFTER = 12
"""Ticks until the pods of a node that is away are told to go."""
Decide = Callable[[Observed, datetime], Decision]


class Cluster:
    """The cluster with one run; `decide` is the one under test, or a mutant of it."""

    def __init__(
        self,
        decide: Decide,
        random: Random,
        *,
        spec: dict[str, Any],
        queue: str | None = None,
        kind: JobKind = JobKind.PYTORCH_JOB,
        chatter: float = 0.1,
        lag: int = 0,
    ) -> None:
        self.decide, self.random, self.chatter = decide, random, chatter
        self.tick, self.jump, self.lag = 0, timedelta(0), lag
        self.machines = {f"n{index}": Machine() for index in range(5)}
        self.units: dict[str, Unit] = {}
        self.versions = 0
        self.operator_down, self.dies_after = 0, -1
        self.operator = Operator(born=0)
        self.stalls = 0
        """Ticks for which the operator's process stops at its next decision, while another takes over."""
        self.late: list[tuple[int, Operator | Plan]] = []
        """Processes that took no note of it, and when they go on: with what they saw, or with what they decided."""
        self.meddler = False
        """Whether a person does by hand what the operator is about to do, between its status and its action."""
        self.job_gone = False
        self.coordinator_up, self.coordinator_life = True, 0
        self.restarts: dict[str, int] = {}
        self.error: Error | None = None
        self.joined: dict[str, int] = {}
        self.config_broken = False
        self.did: list[Did] = []
        self.tries: list[int] = []
        """Ticks of all that was tried, with or without effect."""
        self.writes: list[int] = []
        """Ticks of all writes of the status."""
        self.failures: list[datetime] = []
        """What may be charged: when it happened, over the run's whole life."""
        self.unforgiven: list[datetime] = []
        """The same since the job last went on after a suspension."""
        self.blank_since = BEGIN
        """Since when the run has had a blank sheet: its job was suspended, and somebody made another."""
        self.overdrawn = 0
        """Ticks with more failures within the window than the budget allows and a job that is not suspended."""
        self.suspended_by: str | None = None
        """operator | hand | queue; either: by hand, and it may be taken for ours."""
        self.admitted = False
        self.decisions = 0
        plain = {"jobRef": {"apiVersion": API_VERSIONS[kind], "kind": kind.value, "name": "demo"}}
        self.spec = plain | spec
        self.run = TrainingRun(
            namespace="team", name="demo", uid="r", generation=1, resource_version="0", created_at=BEGIN,
            spec=TrainingRunSpec.model_validate(self.spec),
        )  # fmt: skip
        self.job = Job(
            kind=kind, name="demo", uid="j", resource_version="0", generation=1, created_at=BEGIN,
            replicas=3, suspend=queue is not None, template="a", queue=queue,
        )  # fmt: skip
        if queue is not None:
            self.suspended_by = "queue"
        self.history: list[Snapshot] = []

    @property
    def now(self) -> datetime:
        return BEGIN + self.tick * TICK

    def run_for(self, ticks: int) -> None:
        for _ in range(ticks):
            self.step()

    def step(self) -> None:
        """One tick: everybody does a little."""
        self.tick += 1
        self._queue()
        self._job_controller()
        self._node_controller()
        self._scheduler()
        self._kubelets()
        self._coordinator()
        if self.random.random() < self.chatter:
            self._change_job(generation=self.job.generation)  # its controller writes its status
        self.history.append(self._snapshot())
        self._operate()
        budget, window = self.run.spec.restart.failures, timedelta(seconds=self.run.spec.restart.window_seconds)
        recent = [time for time in self.unforgiven if time > self.now - window + timedelta(seconds=30)]
        self.overdrawn = self.overdrawn + 1 if len(recent) > budget and not self.job.suspend else 0

    # What people, queues and bad luck do

    def edit(self, **changes: Any) -> None:
        """kubectl patch of the TrainingRun's spec."""
        if all(self.spec.get(key) == value for key, value in changes.items()):
            return
        self.spec = self.spec | changes
        self.run = self.run.model_copy(
            update={
                "spec": TrainingRunSpec.model_validate(self.spec),
                "generation": self.run.generation + 1,
                "resource_version": self._version(),
            }
        )

    def edit_job(self, who: str, **changes: Any) -> None:
        """kubectl patch of the job's spec, or the queue's manager."""
        if "suspend" in changes and changes["suspend"] != self.job.suspend:
            self.suspended_by = who if changes["suspend"] else None
            # Between two looks a person resumed and suspended it: nothing tells that from a suspension that lasted.
            held = self.run.status.suspension
            mark = changes.get("mark", self.job.mark)
            if changes["suspend"] and held is not None and mark.endswith(held.time.isoformat("T", "seconds")):
                self.suspended_by = "either"
            if not changes["suspend"]:
                self.unforgiven.clear()
        if any(getattr(self.job, key) != value for key, value in changes.items()):
            self._change_job(**changes)

    def tell_job(self, suspend: bool) -> None:
        """gpt-run job suspend, or resume: the operator's mark goes, and it is a person's word from then on."""
        self.edit_job("hand", suspend=suspend, mark="")
        if self.job.suspend and self.suspended_by != "queue":
            self.suspended_by = "hand"

    def finish(self, *, succeeded: bool) -> None:
        """The job is over, as its own controller says."""
        if self.job.finished is None and not self.job.suspend:
            self._change_job(generation=self.job.generation, finished=succeeded, finished_at=self.now)

    def make_job_anew(self) -> None:
        """kubectl delete and apply."""
        if self.run.status.suspension is not None:
            self.blank_since = self.now
        fresh = {"uid": self._version(), "generation": 1, "created_at": self.now, "suspend": self.job.queue is not None}
        self._change_job(**fresh, mark="", finished=None, finished_at=None)
        self.job_gone, self.suspended_by = False, "queue" if self.job.suspend else None
        for name in list(self.units):
            self.remove(name)
        self.replace_coordinator()

    def fail(self, pod: str, code: int) -> None:
        """A container ends by itself."""
        unit = self.units.get(pod)
        if unit is None or unit.pod.running_since is None or unit.pod.deleting or (self._cut_off(unit) and code != 255):
            return
        if code not in (75, 2, 255):
            self._charge()
        self._set(unit, running_since=None, exit=Exit(code, self.now, "boom"))

    def fail_workers(self, reason: Reason) -> None:
        """An attempt ends while the launchers live on."""
        if self.coordinator_up and self.joined:
            self.restarts[reason] = self.restarts.get(reason, 0) + 1
            self.error = Error(1, reason, "boom", self.now)
            if reason not in (Reason.PREEMPTED, Reason.SCALED, Reason.NODE_LOST):
                self._charge()

    def _charge(self) -> None:
        self.failures.append(self.now)
        self.unforgiven.append(self.now)

    def remove(self, pod: str) -> None:
        """Preemption, a drain: the pod is told to go."""
        if pod in self.units and not self.units[pod].pod.deleting:
            self.units[pod].going_since = self.tick
            self._set(self.units[pod], deleting=True)
            if self.coordinator_up:
                self.restarts[Reason.PREEMPTED] = self.restarts.get(Reason.PREEMPTED, 0) + 1

    def lose(self, node: str, *, dead: bool) -> None:
        """A node does not answer any more; dead: nothing on it does."""
        machine = self.machines[node]
        machine.not_ready_since, machine.dead = machine.not_ready_since or self.now, machine.dead or dead

    def give_back(self, node: str) -> None:
        """The node is there again; what it ran when it died has ended, nobody knows how."""
        for name, unit in self.units.items():
            if unit.pod.node == node and self._dead(unit):
                self.machines[node].dead = False
                self.fail(name, 255)
                self.machines[node].dead = True
        self.machines[node].not_ready_since, self.machines[node].dead = None, False

    def replace_coordinator(self) -> None:
        self.coordinator_life += 1
        self.restarts, self.error, self.joined = {}, None, {}

    def kill_operator(self, ticks: int) -> None:
        self.operator_down = ticks

    def stall_operator(self, ticks: int) -> None:
        """It stops, another takes over, and it goes on for one pass: with the news of then, or amid its writes."""
        if self.random.random() < 0.7:
            self.stalls = ticks
        elif self.operator.seen:
            self.late.append((self.tick + ticks, self.operator))
            self.operator = Operator(born=self.tick)

    # The cluster

    def _version(self) -> str:
        self.versions += 1
        return str(self.versions)

    def _change_job(self, **changes: Any) -> None:
        plain = {"generation": self.job.generation + 1, "resource_version": self._version()}
        self.job = replace(self.job, **(plain | changes))

    def _set(self, unit: Unit, **changes: Any) -> None:
        unit.pod, unit.changed = replace(unit.pod, resource_version=self._version(), **changes), self.tick

    def _machine(self, unit: Unit) -> Machine | None:
        return self.machines.get(unit.pod.node) if unit.pod.node is not None else None

    def _dead(self, unit: Unit) -> bool:
        machine = self._machine(unit)
        return machine is not None and machine.dead

    def _cut_off(self, unit: Unit) -> bool:
        machine = self._machine(unit)
        return machine is not None and machine.not_ready_since is not None

    def _queue(self) -> None:
        """Kueue: a job in its queue runs when it is admitted, and only then, whoever says otherwise."""
        waits = self.job.queue is not None and self.job.finished is None and not self.job_gone
        if waits and self.job.suspend == self.admitted and self.random.random() < 0.3:
            self.edit_job("queue", suspend=not self.admitted)

    def _job_controller(self) -> None:
        wanted = 0 if self.job.suspend or self.job.finished is not None or self.job_gone else self.job.replicas
        for index in range(wanted):
            name = f"w{index}"
            if name not in self.units and self.random.random() < 0.8:
                uid = self._version()
                fresh = Pod(name=name, uid=uid, phase="Pending", created_at=self.now, resource_version=uid)
                self.units[name] = Unit(fresh, self.tick)
        for name, unit in self.units.items():
            if int(name[1:]) >= wanted and not unit.pod.deleting:
                unit.going_since = self.tick
                self._set(unit, deleting=True)

    def _node_controller(self) -> None:
        for unit in self.units.values():
            machine = self._machine(unit)
            since = machine.not_ready_since if machine is not None else None
            if since is not None and self.now - since > EVICTED_AFTER * TICK and not unit.pod.deleting:
                unit.going_since = self.tick
                self._set(unit, deleting=True)

    def _free(self, name: str, machine: Machine) -> int:
        there = sum(unit.pod.node == name for unit in self.units.values())
        return max(0, machine.slots - there) if machine.not_ready_since is None else 0

    def _scheduler(self) -> None:
        for unit in self.units.values():
            if unit.pod.node is not None or unit.pod.deleting:
                continue
            fits = [n for n, machine in self.machines.items() if self._free(n, machine) and not machine.refuses]
            if fits:
                self._set(unit, node=self.random.choice(fits), unschedulable_since=None)
            elif unit.pod.unschedulable_since is None:
                self._set(unit, unschedulable_since=self.now)

    def _kubelets(self) -> None:
        for name, unit in list(self.units.items()):
            pod = unit.pod
            if pod.deleting and pod.node is None:
                del self.units[name]
            if pod.node is None or self._cut_off(unit) or self._dead(unit):
                continue
            if pod.deleting:
                # A frozen launcher is killed when its grace is over.
                if self.tick - unit.going_since >= (3 if unit.frozen else 1):
                    del self.units[name]
            elif pod.running_since is None and self.tick > unit.changed:
                again = pod.restarts + 1 if pod.exit is not None else 0
                self._set(unit, phase="Running", running_since=self.now, restarts=again)
            elif pod.running_since is not None and self.config_broken and self.tick > unit.changed:
                self._set(unit, running_since=None, exit=Exit(2, self.now, "run.yaml is wrong"))

    def _coordinator(self) -> None:
        """Who can be heard is heard, a tick after it began."""
        if not self.coordinator_up:
            return
        alive = {
            name
            for name, unit in self.units.items()
            if unit.pod.running_since is not None
            and not unit.frozen
            and not self._dead(unit)
            and self.now > unit.pod.running_since
        }
        self.joined = {name: self.joined.get(name, self.tick) for name in sorted(alive)}

    def _snapshot(self) -> Snapshot:
        told = None
        if self.coordinator_up:
            enough = len(self.joined) >= self.run.spec.elastic.min
            told = Coordinator(
                asked_at=self.now,
                pod_uid=f"c{self.coordinator_life}",
                phase="training" if enough else "waiting",
                members=dict.fromkeys(self.joined, 0.2),
                restarts=dict(self.restarts),
                last_error=self.error,
                step=1,
            )
        nodes = {n: Node(n, one.not_ready_since is None, one.not_ready_since) for n, one in self.machines.items()}
        pods = tuple(unit.pod for unit in self.units.values())
        there = Counter(pod.node for pod in pods)
        slots = {n: one.slots for n, one in self.machines.items() if one.not_ready_since is None}
        room = sum(max(0, count - there[n]) for n, count in slots.items()) - there[None]
        return Snapshot(self.run, None if self.job_gone else self.job, pods, nodes, told, max(0, room))

    # The operator's loop

    def _operate(self) -> None:
        for late in [one for one in self.late if one[0] <= self.tick]:
            self.late.remove(late)
            plan = late[1] if isinstance(late[1], Plan) else self._plan(late[1], *self._picture(late[1]))
            self._carry_out(plan)
        if self.operator_down:
            self.operator_down -= 1
            self.operator = Operator(born=self.tick + 1)
            return
        operator = self.operator
        self._listen(operator)
        seen, old_news = self._picture(operator)
        told = seen.coordinator and replace(seen.coordinator, asked_at=BEGIN, step=0)
        news = (seen.run, seen.job, seen.pods, seen.nodes, seen.room, told)
        if news == operator.last and (operator.look_at is None or self.now + self.jump < operator.look_at):
            return
        operator.last = news
        plan = self._plan(operator, seen, old_news)
        if self.stalls and plan.decision.actions:
            written = self.random.random() < 0.5 and self._write(plan)
            self.late.append((self.tick + self.stalls, replace(plan, written=written)))
            self.stalls, self.operator = 0, Operator(born=self.tick)
        elif not self._carry_out(plan):
            operator.last = None  # refused: the newer one starts another pass

    def _plan(self, operator: Operator, seen: Observed, old_news: bool) -> Plan:
        self.decisions += 1
        clock = self.now + self.jump
        decision = self.decide(seen, clock)
        operator.look_at = clock + decision.look_again if decision.look_again is not None else None
        return Plan(seen, old_news, decision)

    def _carry_out(self, plan: Plan) -> bool:
        """First the status, then what is to be done; False: the status was refused."""
        if not plan.written and not self._write(plan):
            return False
        for done, action in enumerate(plan.decision.actions):
            if done == self.dies_after:
                self.dies_after = -1
                self.operator = Operator(born=self.tick + 1)
                return True
            if self.meddler and isinstance(action, Suspend | Resume):
                self.meddler = False
                self.edit_job("hand", suspend=isinstance(action, Suspend))
            self.tries.append(self.tick)
            self._do(action, plan)
        return True

    def _write(self, plan: Plan) -> bool:
        """The status, if it is another and nobody has written since."""
        status, seen = plan.decision.status, plan.seen.run
        if status == seen.status:
            return True
        if seen.resource_version != self.run.resource_version:
            return False
        self._check_charges(status)
        self.writes.append(self.tick)
        status = TrainingRunStatus.model_validate_json(status.model_dump_json(by_alias=True))
        self.run = self.run.model_copy(update={"status": status, "resource_version": self._version()})
        return True

    def _check_charges(self, status: TrainingRunStatus) -> None:
        """No more than what happened; seen late, it counts from when it was seen."""
        window = timedelta(seconds=self.run.spec.restart.window_seconds + 120)
        recent = [time for time in self.failures if time > self.now - window]
        assert len(status.failures.times) <= len(recent), "charged for what is no failure"

    def _listen(self, operator: Operator) -> None:
        """Each cache of its own age, none going back; answers to questions may overtake each other."""
        newest = len(self.history) - 1
        for kind in ("run", "job", "pods", "nodes", "coordinator"):
            at = newest - (self.random.randint(0, self.lag) if self.lag else 0)
            if kind != "coordinator":
                at = max(at, operator.seen.get(kind, 0), operator.born - 1)
            operator.seen[kind] = max(0, min(newest, at))

    def _picture(self, operator: Operator) -> tuple[Observed, bool]:
        """What a process knows, and whether any of it is old."""
        part = {kind: self.history[at] for kind, at in operator.seen.items()}
        told, pods, clock = part["coordinator"].coordinator, part["pods"].pods, self.now + self.jump
        if told is not None:
            if operator.answering is None or operator.answering[0] != told.pod_uid:
                operator.answering = (told.pod_uid, clock)
            told = replace(told, answering_since=operator.answering[1])
            silent = {
                p.uid for p in pods if p.running_since is not None and not p.deleting and p.name not in told.members
            }
            operator.silent_since = {uid: operator.silent_since.get(uid, clock) for uid in sorted(silent)}
        room = part["nodes"].room
        operator.room_since = (operator.room_since or clock) if room > 0 else None
        seen = Observed(
            run=part["run"].run, job=part["job"].job, pods=pods, nodes=part["nodes"].nodes, coordinator=told,
            silent_since=operator.silent_since, room=room, room_since=operator.room_since,
        )  # fmt: skip
        newest = len(self.history) - 1
        return seen, any(at != newest for at in operator.seen.values())

    def _do(self, action: Action, plan: Plan) -> None:
        """As the API server would: nothing that was decided upon another version."""
        seen = plan.seen
        match action:
            case (
                Scale(job_resource_version=version)
                | Suspend(job_resource_version=version)
                | Resume(job_resource_version=version)
            ):
                if self.job_gone or version not in ("", self.job.resource_version):
                    return
            case DeletePod(pod=name, uid=uid, resource_version=version):
                unit = self.units.get(name)
                if unit is None or unit.pod.uid != uid or version not in ("", unit.pod.resource_version):
                    return
            case DeleteJob(uid=uid, job_resource_version=version):
                if self.job_gone or uid != self.job.uid or version not in ("", self.job.resource_version):
                    return
                # The operator looks at the TrainingRun once more before it does what cannot be undone.
                if seen.run.generation != self.run.generation:
                    return
        self.did.append(Did(self.tick, action, seen, plan.old_news, plan.decision.status))
        match action:
            case Scale():
                assert self.job.replicas != action.replicas, "scaled to what it has"
                self._change_job(replicas=action.replicas)
            case Suspend():
                assert not self.job.suspend, "suspended twice"
                if action.reason is ActionReason.BUDGET_EXHAUSTED:
                    blank = [time for time in self.failures if time > self.blank_since - 10 * TICK]
                    assert len(blank) > self.run.spec.restart.failures, "charged for what an earlier job did"
                self.suspended_by = "operator"
                self._change_job(suspend=True, mark=action.mark)
            case Resume():
                assert self.job.suspend, "resumed twice"
                assert self.suspended_by in ("operator", "either"), "resumed what others suspended"
                self.suspended_by = None
                self.unforgiven.clear()
                self._change_job(suspend=False, mark="")
            case DeletePod(force=True):
                del self.units[action.pod]
            case DeletePod():
                unit = self.units[action.pod]
                assert not unit.pod.deleting, "told to go twice"
                unit.going_since = self.tick
                self._set(unit, deleting=True)
            case DeleteJob():
                self.job_gone = True
