"""The weights of a checkpoint for a single process: read one by one when asked for, or all at once.

Export reads them through `open_model_tensors`, so that a model never has to fit into memory; evaluation and generation
take them whole with `load_model_tensors`. No process group is needed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import torch
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load as dcp_load

from trainer.checkpoint.layout import Checkpoint, CorruptCheckpoint
from trainer.checkpoint.load import check_sizes, local_files, root_cause
from trainer.checkpoint.ranks import quiet_single_process
from trainer.checkpoint.reader import CheckpointReader, VerifiedFiles
from trainer.checkpoint.unpickling import PlainValuesPlanner
from trainer.durable import require_space

_PREFIX = "model."
# Files that are read side by side.
_STREAMS = 4


class ModelTensors(Mapping[str, torch.Tensor]):
    """The weights of an open checkpoint by their names below `model`: each whole, on the CPU, read when asked for.

    `items()` gives (name, tensor) one after the other. Whatever changes weights on their way out of a checkpoint, as a
    merge does, is a mapping like this one around it, whose items are made from this one's.
    """

    def __init__(self, files: VerifiedFiles, reader: CheckpointReader) -> None:
        self._files = files
        self._reader = reader
        metadata = reader.read_metadata()
        self._stored = {
            name.removeprefix(_PREFIX): stored
            for name, stored in metadata.state_dict_metadata.items()
            if name.startswith(_PREFIX) and isinstance(stored, TensorStorageMetadata)
        }
        places = metadata.storage_data.items()
        names = {place.relative_path for index, place in places if index.fqn.startswith(_PREFIX)}
        self._sizes = {name: files.entry(name).bytes for name in sorted(names)}

    @property
    def file_bytes(self) -> int:
        """Size of the checkpoint's files that hold weights, with what else is in them."""
        return sum(self._sizes.values())

    def verify(self, advance: Callable[[int], None]) -> None:
        """Bring these files here and compare their hashes, before the first tensor is asked for.

        `advance` is told of bytes. CorruptCheckpoint for a file that is not what was committed, UserError where the
        disk for temporary files has no room for them.
        """
        if not self._files.in_place:
            require_space(
                self._files.folder,
                self.file_bytes,
                purpose="the checkpoint's files, which are fetched before they are read",
                fix="make room, or set TMPDIR to a folder on a larger disk",
            )

        def one(name: str) -> None:
            with self._files.file(name):
                advance(self._sizes[name])

        with ThreadPoolExecutor(_STREAMS, thread_name_prefix="verify") as pool:
            list(pool.map(one, self._sizes))

    def read(self, *names: str) -> dict[str, torch.Tensor]:
        """Several tensors at once; files are read side by side."""
        tensors = {
            name: torch.empty(self._stored[name].size, dtype=self._stored[name].properties.dtype) for name in names
        }
        try:
            dcp_load(
                {_PREFIX.rstrip("."): tensors},
                storage_reader=self._reader,
                planner=PlainValuesPlanner(),
                no_dist=True,
            )
        except CheckpointException as error:
            raise root_cause(error) from None
        return tensors

    def __getitem__(self, name: str) -> torch.Tensor:
        return self.read(name)[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._stored)

    def __len__(self) -> int:
        return len(self._stored)


@contextlib.contextmanager
def open_model_tensors(checkpoint: Checkpoint, *, keep: bool = True) -> Iterator[ModelTensors]:
    """The weights of a checkpoint for the length of the block.

    keep: a file that was fetched from a store stays until the end, since its tensors are asked for one by one.
    UserError, also out of the block, if a file is not what was committed.
    """
    quiet_single_process()
    try:
        check_sizes(checkpoint)
        with local_files(checkpoint, keep=keep) as files:
            yield ModelTensors(files, CheckpointReader(files, streams=_STREAMS))
    except CorruptCheckpoint as error:
        raise error.as_user_error() from error


def load_model_tensors(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    """All weights, whole, on the CPU, by their names below `model`. UserError if a file is not what was committed."""
    with open_model_tensors(checkpoint, keep=False) as tensors:
        return tensors.read(*tensors)
