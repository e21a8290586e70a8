"""Who trains without Ray never imports it: it need not be installed."""

from __future__ import annotations

import subprocess
import sys


def test_other_commands_do_not_import_ray() -> None:
    code = (
        "import sys, trainer.cli.main, trainer.train.warm, trainer.elastic.launcher, trainer.elastic.server\n"
        "sys.exit(any(name == 'ray' or name.startswith('ray.') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
