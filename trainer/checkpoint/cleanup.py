"""Deletes checkpoints, in the order that never leaves a marker without its files.

Retention after each commit and `gpt-run checkpoints prune` call it; what to delete is decided in
`trainer.checkpoint.retention`.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from trainer.checkpoint.attempts import Attempt, Lineage, lineage, read_claims
from trainer.checkpoint.config import KeepConfig
from trainer.checkpoint.layout import CHECKPOINTS, MARKER, RunListing, read_checkpoints
from trainer.checkpoint.retention import Facts, protected_base, to_delete, torn_to_clean
from trainer.checkpoint.store import Store


@dataclass(frozen=True)
class Removal:
    """What retention removes: committed checkpoints and folders without a marker."""

    deleted: tuple[str, ...]
    torn: tuple[str, ...]


def plan_removal(run: Store, keep: KeepConfig, attempt: Attempt | None = None) -> tuple[Removal, RunListing]:
    """Read the run and decide; nothing is deleted. attempt: the caller's own, of which no save is under way."""
    listing = read_checkpoints(run)
    claims = read_claims(run)
    names = [checkpoint.name for checkpoint in listing.committed]
    order: Lineage = lineage({number: claim.base_checkpoint for number, claim in claims.items()}, names)
    newest = max(claims, default=0)
    base = claims[newest].base_checkpoint if claims else None
    facts = [Facts.of(checkpoint) for checkpoint in listing.committed]
    deleted = to_delete(facts, order.names, keep, protected_base(newest, base, names))
    between_saves = attempt is not None and attempt.number == newest
    return Removal(tuple(deleted), tuple(torn_to_clean(listing, newest, between_saves=between_saves))), listing


def apply_retention(run: Store, keep: KeepConfig, attempt: Attempt | None = None) -> Removal:
    """Delete what no tier holds.

    attempt: of the caller, between two of its saves; Fenced instead, if a newer one took over meanwhile.
    A folder that cannot be deleted keeps no other one; the first error is raised at the end. What is left of it has no
    marker, and goes with the torn ones the next time.
    """
    removal, listing = plan_removal(run, keep, attempt)
    if attempt is not None and (removal.deleted or removal.torn):
        attempt.check_fence()
    by_name = listing.by_name()
    files = {name: by_name[name].sizes for name in removal.deleted}
    files.update((name, listing.torn[name]) for name in removal.torn)
    failures = []
    for name, sizes in files.items():
        try:
            delete_folder(run, name, sizes)
        except Exception as error:
            failures.append(error)
    if failures:
        raise failures[0]
    return removal


def delete_folder(run: Store, name: str, files: Iterable[str]) -> None:
    """The marker first: from then on the checkpoint does not exist, whatever happens to the rest.

    Of a torn save it is looked for once more at the end: its writer may have passed its last check before it was taken
    over. One that comes later still finds that it lacks its files, and is taken back by its writer.
    A file that cannot be deleted keeps no other one; the first error is raised at the end.
    """
    folder = run.child(f"{CHECKPOINTS}/{name}")
    names = set(files)
    if MARKER in names:
        folder.remove(MARKER)
        # Evaluations may have come since: whoever adds a file looks at the marker after it.
        names |= folder.find().keys()
    with ThreadPoolExecutor(max_workers=8) as pool:
        removals = [pool.submit(folder.remove, file) for file in sorted(names - {MARKER})]
    if MARKER not in names and MARKER in folder.find():
        folder.remove(MARKER)
    for removal in removals:
        removal.result()
    folder.remove_folder("")
