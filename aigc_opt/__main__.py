"""``python -m aigc_opt`` and ``aigc-opt``: start the command line, so that Ctrl-C while it starts ends in order too."""

import os
import signal
import sys


def run() -> None:
    """Entry point of the installed command."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started us
            setattr(sys, name, open(os.devnull, "w"))
    try:
        from aigc_opt.cli import run_command

        try:
            status = run_command()
        finally:
            # All is given, and the process ends. Only a signal that is ignored stays so while the interpreter shuts
            # down: it gives every other one back to the system, which would end the process as if by a failure.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        sys.stderr.write("aigc-opt: interrupted\n")
        status = 3
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:  # whoever read has gone; Python would try again when it ends, and change the status
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    solvers = sys.modules.get("aigc_opt.solvers")
    if solvers is not None and solvers.solvers_left_behind():
        # A solver that ignores its limit still runs in its thread: leave without waiting for it.
        os._exit(status)
    sys.exit(status)


if __name__ == "__main__":
    run()
