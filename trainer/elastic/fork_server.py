"""Settles the process that everything of a launcher is forked from; imported by it before anything else.

Importing it has effects on purpose: the fork server must end with its launcher, must not hear the terminal's Ctrl+C or
its end, and its own children must end with it.
"""

from __future__ import annotations

import os

from trainer.elastic.signals import LAUNCHER_PID_VARIABLE, die_with_launcher, name_process

os.setsid()
die_with_launcher()
name_process("gpt-run:forks")
os.environ[LAUNCHER_PID_VARIABLE] = str(os.getpid())
