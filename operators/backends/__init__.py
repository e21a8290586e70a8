"""The kinds of job that a run can be: one module each, with the few things that differ between them.

Another kind (a TrainJob, say) is one more module, one more entry here and one in `JobKind`.
"""

from operators.api import JobKind
from operators.backends.backend import Backend
from operators.backends.pytorchjob import PyTorchJob
from operators.backends.rayjob import RayJob

BACKENDS: dict[JobKind, Backend] = {backend.kind: backend for backend in (PyTorchJob(), RayJob())}
