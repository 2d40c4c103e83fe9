"""``python -m aigc_opt`` and ``aigc-opt``: start the command line, so that Ctrl-C while it starts ends in order too."""

import os
import sys


def run() -> None:
    """Entry point of the installed command."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started us
            setattr(sys, name, open(os.devnull, "w"))
    try:
        from aigc_opt.cli import main

        status = main()
    except KeyboardInterrupt:
        sys.stderr.write("aigc-opt: interrupted\n")
        status = 3
    solvers = sys.modules.get("aigc_opt.solvers")
    if solvers is not None and solvers.solvers_left_behind():
        # A solver that ignores its limit still runs in its thread: leave without waiting for it.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


if __name__ == "__main__":
    run()
