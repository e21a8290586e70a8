"""How many more pods of a shape the nodes have room for. Pure; `observe` asks it for runs that follow the capacity.

It knows what GPU pools use: requests, node selectors, required node affinity, taints and tolerations, cordons, Ready. A
shape with more (anti-affinity, hard spread, host ports) gets `None`: better not to grow than to grow into Pending pods.
The scheduler has the last word; a growth that it refuses is taken back and waits longer the next time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from typing import Any

# Resource -> thousandths of its unit, so that all sums are exact.
Amounts = tuple[tuple[str, int], ...]
Labels = Mapping[str, str]

_SUFFIXES = {
    **{"n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"), "": Decimal(1)},
    **{unit: Decimal(1000) ** power for power, unit in enumerate(("k", "M", "G", "T", "P", "E"), 1)},
    **{f"{unit}i": Decimal(1024) ** power for power, unit in enumerate(("K", "M", "G", "T", "P", "E"), 1)},
}


@dataclass(frozen=True, slots=True)
class Toleration:
    """As in a pod's spec; an empty key with Exists tolerates everything."""

    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""

    def covers(self, taint: Taint) -> bool:
        """Whether a pod with it may be where this taint is."""
        if self.effect and self.effect != taint.effect:
            return False
        if self.operator == "Exists":
            return not self.key or self.key == taint.key
        return self.key == taint.key and self.value == taint.value


@dataclass(frozen=True, slots=True)
class Taint:
    """As in a node's spec."""

    key: str
    value: str
    effect: str


@dataclass(frozen=True, slots=True)
class Requirement:
    """One expression of a node affinity."""

    key: str
    operator: str
    values: tuple[str, ...] = ()

    def holds(self, labels: Labels) -> bool:
        """Of a node with these labels; False for an operator that this version does not know."""
        found = labels.get(self.key)
        match self.operator:
            case "In":
                return found in self.values
            case "NotIn":
                return found not in self.values
            case "Exists":
                return found is not None
            case "DoesNotExist":
                return found is None
            case "Gt" | "Lt" if found is not None and found.removeprefix("-").isdecimal():
                limit = int(self.values[0])
                return int(found) > limit if self.operator == "Gt" else int(found) < limit
        return False


@dataclass(frozen=True, slots=True)
class Shape:
    """What decides where a pod can run."""

    requests: Amounts
    selector: tuple[tuple[str, str], ...] = ()
    affinity: tuple[tuple[Requirement, ...], ...] = ()
    """One of these terms must hold, all of its requirements; none: no affinity."""
    tolerations: tuple[Toleration, ...] = ()
    simple: bool = True
    """False: something else decides as well, which is not looked at here."""


@dataclass(frozen=True, slots=True)
class Place:
    """A node, as far as the scheduler looks at it."""

    ready: bool
    unschedulable: bool = False
    labels: tuple[tuple[str, str], ...] = ()
    taints: tuple[Taint, ...] = ()
    allocatable: Amounts = field(default=())


def room(shape: Shape, nodes: Iterable[tuple[Place, Iterable[Amounts]]]) -> int | None:
    """Pods of `shape` for which there is room; nodes: each with the requests of its pods. None: cannot be told."""
    if not shape.simple:
        return None
    return sum(_fits(shape, place, taken) for place, taken in nodes if allowed(shape, place))


def allowed(shape: Shape, place: Place) -> bool:
    """Whether a pod of the shape may run there, were there room."""
    if not place.ready or place.unschedulable:
        return False
    labels = dict(place.labels)
    if any(labels.get(key) != value for key, value in shape.selector):
        return False
    if shape.affinity and not any(all(one.holds(labels) for one in term) for term in shape.affinity):
        return False
    hard = (taint for taint in place.taints if taint.effect in ("NoSchedule", "NoExecute"))
    return all(any(toleration.covers(taint) for toleration in shape.tolerations) for taint in hard)


def _fits(shape: Shape, place: Place, taken: Iterable[Amounts]) -> int:
    free = dict(place.allocatable)
    for amounts in taken:
        for resource, amount in (*amounts, ("pods", 1000)):
            if resource in free:
                free[resource] -= amount
    wanted = [(resource, amount) for resource, amount in (*shape.requests, ("pods", 1000)) if amount > 0]
    return max(0, min(free.get(resource, 0) // amount for resource, amount in wanted))


# Out of the API server's JSON -----------------------------------------------------------------------------------------


def shape_of(spec: dict[str, Any]) -> Shape:
    """Of a pod's spec, or of its template's."""
    affinity = spec.get("affinity") or {}
    required = (affinity.get("nodeAffinity") or {}).get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    terms = required.get("nodeSelectorTerms") or []
    return Shape(
        requests=requests_of(spec),
        selector=tuple(sorted((spec.get("nodeSelector") or {}).items())),
        affinity=tuple(
            tuple(
                Requirement(one["key"], one["operator"], tuple(one.get("values") or ()))
                for one in term.get("matchExpressions") or ()
            )
            for term in terms
        ),
        tolerations=tuple(
            Toleration(
                one.get("key") or "", one.get("operator") or "Equal", one.get("value") or "", one.get("effect") or ""
            )
            for one in spec.get("tolerations") or ()
        ),
        simple=not (
            any("matchFields" in term for term in terms)
            or (affinity.get("podAntiAffinity") or {}).get("requiredDuringSchedulingIgnoredDuringExecution")
            or (affinity.get("podAffinity") or {}).get("requiredDuringSchedulingIgnoredDuringExecution")
            or any(
                one.get("whenUnsatisfiable", "DoNotSchedule") == "DoNotSchedule"
                for one in spec.get("topologySpreadConstraints") or ()
            )
            or any("hostPort" in port for one in spec.get("containers") or () for port in one.get("ports") or ())
            or spec.get("resourceClaims")
        ),
    )


def place_of(body: dict[str, Any], *, ready: bool) -> Place:
    """Of a node."""
    spec = body.get("spec") or {}
    return Place(
        ready=ready,
        unschedulable=bool(spec.get("unschedulable")),
        labels=tuple(sorted((body["metadata"].get("labels") or {}).items())),
        taints=tuple(Taint(one["key"], one.get("value") or "", one["effect"]) for one in spec.get("taints") or ()),
        allocatable=amounts_of((body.get("status") or {}).get("allocatable") or {}),
    )


def requests_of(spec: dict[str, Any]) -> Amounts:
    """What the scheduler sets aside for a pod: its containers and sidecars, or its largest init container."""
    running: dict[str, int] = {}
    for container in spec.get("containers") or ():
        _add(running, _requests(container))
    largest: dict[str, int] = {}
    for container in spec.get("initContainers") or ():
        own = _requests(container)
        if container.get("restartPolicy") == "Always":
            _add(running, own)
        else:
            largest = {key: max(largest.get(key, 0), own.get(key, 0)) for key in {*largest, *own}}
    total = {key: max(running.get(key, 0), largest.get(key, 0)) for key in {*running, *largest}}
    _add(total, dict(amounts_of(spec.get("overhead") or {})))
    return tuple(sorted(total.items()))


def amounts_of(quantities: dict[str, Any]) -> Amounts:
    """Quantities as Kubernetes writes them."""
    return tuple(sorted((resource, parse_quantity(str(text))) for resource, text in quantities.items()))


@lru_cache(maxsize=4096)
def parse_quantity(text: str) -> int:
    """Thousandths, rounded up: "1" and "1000m" are 1000, "1Ki" is 1024000. ValueError for anything else."""
    number = text.rstrip("numkKMGTPEi")
    # What follows the digits is the suffix, unless it is an exponent: 1E (exa) and 1E3 both exist.
    suffix = text[len(number) :]
    try:
        exact = Decimal(number) * _SUFFIXES[suffix] * 1000
    except (ArithmeticError, KeyError) as error:
        raise ValueError(f"{text!r} is no quantity") from error
    return int(exact.to_integral_value(rounding="ROUND_CEILING"))


def _requests(container: dict[str, Any]) -> dict[str, int]:
    """A limit without a request is a request, as the API server has it."""
    resources = container.get("resources") or {}
    return dict(amounts_of({**(resources.get("limits") or {}), **(resources.get("requests") or {})}))


def _add(total: dict[str, int], more: Mapping[str, int]) -> None:
    for resource, amount in more.items():
        total[resource] = total.get(resource, 0) + amount
