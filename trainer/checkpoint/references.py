"""From what a person types to a checkpoint: `latest`, `best`, `step:250`, a name, a full URL.

Resume and every command that asks for a checkpoint go through `resolve` (inside a run) or `resolve_url`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trainer.checkpoint.attempts import has_gone_on, read_claims, read_lineage
from trainer.checkpoint.layout import (
    CHECKPOINTS,
    MARKER,
    Checkpoint,
    CorruptCheckpoint,
    RunListing,
    parse_committed,
    parse_name,
    read_checkpoints,
)
from trainer.checkpoint.retention import Facts, best_first
from trainer.checkpoint.store import Store, open_store
from trainer.errors import UserError


@dataclass(frozen=True)
class Resolved:
    """Checkpoints to try, best first. More than one only where a fall-back is meant (`latest`)."""

    run: Store
    reference: str
    """What they were asked for by, in which run: to look again where they are deleted before they are read."""
    candidates: tuple[Checkpoint, ...]
    skipped: tuple[str, ...] = ()
    """Why newer ones are not among the candidates."""

    @property
    def checkpoint(self) -> Checkpoint:
        return self.candidates[0]


def resolve(run: Store, reference: str = "latest") -> Resolved | None:
    """What `reference` means in this run. None: `latest` of a run that has none. UserError lists what exists."""
    if "://" in reference or "/" in reference:
        return Resolved(run, reference, (resolve_url(reference),))
    listing = read_checkpoints(run)
    by_name = listing.by_name()
    order = read_lineage(run, by_name)
    line = [by_name[name] for name in order.names]
    if reference == "latest":
        if not line and order.origin is not None:
            return Resolved(run, reference, (resolve_url(order.origin),))
        skipped = tuple(listing.broken.values())
        if not line:
            if listing.committed or listing.broken:
                raise _nothing(run, reference, listing)
            return None
        return Resolved(run, reference, tuple(line), skipped)
    if reference == "best":
        found = _best(listing.committed)
    elif reference.startswith("step:") and reference[5:].isdecimal():
        step = int(reference[5:])
        found = next((checkpoint for checkpoint in line if checkpoint.step == step), None)
    else:
        found = by_name.get(reference)
    if found is None:
        raise _nothing(run, reference, listing)
    return Resolved(run, reference, (found,))


def resume_reference(run: Store, asked: str, config_sha256: str) -> str:
    """What an attempt resumes from: what its config asks for, or `latest` once that config went on from there.

    asked: `resume` of the config, `none` included.
    """
    if asked == "latest":
        return asked
    configs = {number: claim.config_sha256 for number, claim in read_claims(run).items()}
    return "latest" if has_gone_on(configs, read_checkpoints(run).by_name(), config_sha256) else asked


def resolve_url(url: str, reference: str = "latest") -> Checkpoint:
    """The checkpoint at a URL: of a checkpoint itself, or of a run, whose `reference` is taken.

    `<run URL>@best` is the same as `<run URL>` with reference `best`.
    """
    base, at, suffix = url.rstrip("/").rpartition("@")
    if at and "/" not in suffix:
        url, reference = base, suffix
    store = open_store(url)
    if parse_name(store.name) is not None:
        return _at(store)
    resolved = resolve(store, reference)
    if resolved is None:
        raise UserError(
            f"{store.url} has no checkpoint",
            expected="the URL of a run (<store>/<run>) or of a checkpoint (<store>/<run>/checkpoints/NAME)",
            fix=f"see what is there: {', '.join(store.list_names()[:8]) or 'nothing'}",
        )
    return resolved.checkpoint


def _at(folder: Store) -> Checkpoint:
    sizes = folder.find()
    if MARKER not in sizes:
        run = folder.parent().parent()
        raise _nothing(run, folder.name, read_checkpoints(run))
    try:
        return Checkpoint(folder, parse_committed(folder.read_bytes(MARKER), folder.url), sizes)
    except CorruptCheckpoint as error:
        raise error.as_user_error() from error


def _best(checkpoints: Sequence[Checkpoint]) -> Checkpoint | None:
    by_name = {checkpoint.name: checkpoint for checkpoint in checkpoints}
    ranked = best_first(Facts.of(checkpoint) for checkpoint in checkpoints)
    return by_name[ranked[0].name] if ranked else None


def _nothing(run: Store, reference: str, listing: RunListing) -> UserError:
    there = [checkpoint.name for checkpoint in reversed(listing.committed)]
    shown = ", ".join(there[:8]) + (f" and {len(there) - 8} more" if len(there) > 8 else "")
    notes = [*listing.broken.values()]
    if reference in listing.torn:
        notes.append(f"{reference} was never committed")
    why = f" ({'; '.join(notes)})" if notes else ""
    return UserError(
        f"{run.url}/{CHECKPOINTS}: no checkpoint {reference!r}{why}",
        expected=f"latest, best (needs a validation loss), step:N, a URL, or a name: {shown or 'none is there'}",
        fix="name one that exists; `gpt-run checkpoints list` shows them",
    )
