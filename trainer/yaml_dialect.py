"""The one YAML dialect of run files, pipelines and values: YAML 1.2, so `1e-4` is a number and `no` is a word.

Called by `trainer.config` and by data preparation. Duplicate keys are refused; syntax errors say file, line and column.
"""

from __future__ import annotations

import io
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from trainer.errors import UserError


def load_yaml(path: Path) -> object:
    """Read one YAML document from `path`; raises UserError for a missing file, one that is no text, or bad syntax."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"{path}: {error.strerror}", expected="a readable YAML file", fix="check the path and its permissions"
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: {error.reason} at byte {error.start}",
            expected="YAML as UTF-8 text",
            fix="check the path, or save the file as UTF-8",
        ) from error
    return parse_yaml(text, source=str(path))


def parse_yaml(text: str, *, source: str) -> object:
    """Parse one YAML document; `source` names it in errors."""
    try:
        return _yaml().load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{source}:{mark.line + 1}:{mark.column + 1}" if mark else source
        raise UserError(
            f"{where}: {error.problem or error}",
            expected="valid YAML 1.2 without duplicate keys",
            fix="correct the line",
        ) from error
    except RecursionError as error:
        raise UserError(
            f"{source}: lists or mappings inside each other, too many",
            expected="valid YAML 1.2",
            fix="correct the file",
        ) from error
    except YAMLError as error:
        raise UserError(f"{source}: {error}", expected="valid YAML 1.2", fix="correct the file") from error


def dump_yaml(data: object) -> str:
    """Write `data` (plain dicts, lists and scalars) as YAML, keys in the given order."""
    stream = io.StringIO()
    yaml = _yaml()
    yaml.dump(data, stream)
    return stream.getvalue()


def _yaml() -> YAML:
    yaml = YAML(typ="safe", pure=True)
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]  # ruamel does not declare its type
    yaml.default_flow_style = False
    return yaml
