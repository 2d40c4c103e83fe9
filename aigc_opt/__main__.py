"""``python -m aigc_opt``: the same command line as ``aigc-opt``."""

from aigc_opt.cli import run

run()
