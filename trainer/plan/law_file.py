"""A scaling law of one's own, as `gpt-run scaling-law fit --json` prints it: `gpt-run plan --law FILE`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from trainer.complaints import complaints
from trainer.errors import UserError
from trainer.plan.scaling_law import Fit

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Law(BaseModel):
    """The part of the document that is the law; intervals and runs stand beside it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    source: str
    irreducible: float = Field(ge=0, allow_inf_nan=False)
    a: Positive
    b: Positive
    alpha: Positive
    beta: Positive


def read_law(file: Path) -> Fit:
    """The law in a file. UserError, with every complaint, for a file that holds none."""
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(document, dict):
            raise ValueError(f"a {type(document).__name__}")
        return Fit(**_Law.model_validate(document).model_dump())
    except ValidationError as error:
        problems = "; ".join(complaints(error, document, _Law))
    except OSError as error:
        problems = error.strerror or str(error)
    except (ValueError, RecursionError) as error:
        problems = f"not a JSON object ({error})"
    raise UserError(
        f"--law {file}: {problems}",
        expected="what `gpt-run scaling-law fit --json` prints",
        fix="gpt-run scaling-law fit RUN... --json > law.json",
    )
