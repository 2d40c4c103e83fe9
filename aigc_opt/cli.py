"""The command line: parse, call the API, print. Results go to standard output, all else to standard error.

Exit status: 0 done; 1 the check failed, the problem is proved infeasible or the doctor found a fault; 2 the input, the
call or a missing optional solver; 3 neither point nor bound; 4 an internal error.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from aigc_opt.bench.commands import add_bench
from aigc_opt.console import BAD_INPUT, DONE, INTERNAL, REFUSED, UNKNOWN, check_writable, put, say
from aigc_opt.errors import InputError, MissingSolverError
from aigc_opt.tradeoffs.commands import add_exploring

if TYPE_CHECKING:
    from aigc_opt.instance.base import Instance

OUTPUT_HELP = "write the JSON result here; - = to standard output, and nothing else"


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return its exit status, with Ctrl-C as it was found."""
    interrupt = signal.getsignal(signal.SIGINT)
    try:
        return run_command(argv)
    finally:
        if interrupt is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, interrupt)


def run_command(argv: list[str] | None = None) -> int:
    """Run the command line and return its exit status; what Ctrl-C does afterwards is left to the caller.

    After a solve it does nothing: one that comes when the result has been given must not look like a failure.
    """
    words = sys.argv[1:] if argv is None else argv
    arguments = _parser(words).parse_args(words)
    warnings.showwarning = _warn
    try:
        status = arguments.run(arguments)
        sys.stdout.flush()
    except (InputError, MissingSolverError) as error:
        if arguments.debug:
            raise
        lines = error.lines() if isinstance(error, InputError) else [str(error)]
        for line in lines:
            say(f"aigc-opt: {line}")
        status = BAD_INPUT
    except BrokenPipeError:
        # Whoever read our output has enough; Python would complain again when it closes standard output.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = DONE
    except OSError as error:
        if arguments.debug:
            raise
        say(f"aigc-opt: standard output cannot be written: {error.strerror or error}")
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = BAD_INPUT
    except KeyboardInterrupt as interrupt:
        say(" ".join(["aigc-opt: interrupted", *map(str, interrupt.args)]))
        status = UNKNOWN
    except MemoryError:
        say("aigc-opt: not enough memory for this instance")
        status = BAD_INPUT
    except Exception as error:
        if arguments.debug:
            raise
        say(f"aigc-opt: internal error, please report it (--debug shows where): {type(error).__name__}: {error}")
        status = INTERNAL
    return status


def _warn(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    say(f"aigc-opt: warning: {message}")


# ------------------------------------------------------------------------------------------------------- commands


CERTIFYING_SHARE = 0.2
"""Share of the time limit that is kept for a certificate's multipliers."""


def _solve(arguments: argparse.Namespace) -> int:
    from aigc_opt import api
    from aigc_opt.instance.files import loaded

    check_writable(arguments.output)
    began = time.perf_counter()
    instance = loaded(arguments.instance)
    result = _with_progress(
        arguments,
        lambda progress: api.solve(
            instance,
            method=arguments.method,
            solver=arguments.solver,
            gap=arguments.gap,
            time_limit=_solving_s(arguments),
            seed=arguments.seed,
            bound=arguments.bound,
            progress=progress,
        ),
    )
    return _give(arguments, instance, result, began)


def _bound(arguments: argparse.Namespace) -> int:
    from aigc_opt import api
    from aigc_opt.instance.files import loaded

    check_writable(arguments.output)
    began = time.perf_counter()
    instance = loaded(arguments.instance)
    result = _with_progress(
        arguments, lambda progress: api.bound(instance, time_limit=_solving_s(arguments), progress=progress)
    )
    return _give(arguments, instance, result, began)


def _solving_s(arguments: argparse.Namespace) -> float | None:
    """Seconds of the solve itself: a part of them is kept where a certificate is wanted."""
    whole = arguments.time_limit
    return whole if whole is None or arguments.certify is None else (1.0 - CERTIFYING_SHARE) * whole


def _certify(arguments: argparse.Namespace, instance: Any, result: Any, began: float) -> tuple[Any, list[str]]:
    """Certify a bound for a result: return the result with the better of both bounds, and what to say of it."""
    from aigc_opt.certificates import adopted, certify, kind_of_method
    from aigc_opt.result import Status

    if result.status is Status.INFEASIBLE:
        return result, ["no certificate: the instance is infeasible, there is no point to bound"]
    left = None
    if arguments.time_limit is not None:
        left = max(0.05, arguments.time_limit - (time.perf_counter() - began))
    kind = kind_of_method(instance, result.method)
    certificate = _with_progress(arguments, lambda progress: certify(instance, kind, left, progress))
    if certificate is None:
        return result, ["no certificate: there was no time for multipliers"]
    reported = "none" if result.lower_bound is None else f"{result.lower_bound:.10g} ({result.proof})"
    lines = [
        f"certified exactly: {certificate.lower_bound:.10g} (rational arithmetic, {certificate.kind}), "
        f"reported bound: {reported}"
    ]
    result = adopted(result, certificate)
    if arguments.output not in (None, "-"):
        path = Path(arguments.output)
        path = path.with_name(f"{path.name.removesuffix('.json')}.certificate.json")
        certificate.save(path)
        lines.append(f"wrote {path}")
    return result, lines


def _check(arguments: argparse.Namespace) -> int:
    from aigc_opt import api
    from aigc_opt.instance.files import SOLUTION_BYTES, read_json

    if Path(arguments.solution).suffix != ".npz":
        if read_json(arguments.solution, SOLUTION_BYTES).get("format") == "aigc-opt/certificate":
            return _check_certificate(arguments)
    checked = api.check(arguments.instance, arguments.solution)
    if arguments.json:
        print(json.dumps(checked.to_dict(), indent=1))
        return DONE if checked.feasible else REFUSED
    value = "no value" if checked.objective is None else f"objective {checked.objective:.10g}"
    print(f"{'feasible' if checked.feasible else 'NOT feasible'}, {value}")
    for name, term in (checked.terms or {}).items():
        print(f"  {name:<12} {term:14.6f}")
    if checked.violations:
        print(f"{len(checked.violations)} violations:")
        print(checked.to_frame().to_string(index=False, max_rows=40))
    return DONE if checked.feasible else REFUSED


def _check_certificate(arguments: argparse.Namespace) -> int:
    from aigc_opt.certificates import check_certificate

    verdict = check_certificate(arguments.instance, arguments.solution)
    claim = verdict.certificate.lower_bound
    if arguments.json:
        print(json.dumps(verdict.to_dict(), indent=1))
    elif verdict.accepted:
        print(f"accepted: no point is below {claim!r} ({verdict.certificate.kind}, exact rational arithmetic)")
    else:
        print(f"refused: {verdict.reason}")
    return DONE if verdict.accepted else REFUSED


def _generate(arguments: argparse.Namespace) -> int:
    from aigc_opt.instance.generate import GENERATORS

    options = {
        name: value
        for name, value in vars(arguments).items()
        if name in arguments.generator_options and value is not None
    }
    return _give_instance(GENERATORS[arguments.problem](**options), arguments.output)


def _sample(arguments: argparse.Namespace) -> int:
    from aigc_opt.instance.files import loaded_as
    from aigc_opt.instance.sample import sample
    from aigc_opt.instance.two_timescale import TwoTimescaleInstance

    check_writable(arguments.output)
    return _give_instance(sample(loaded_as(TwoTimescaleInstance, arguments.instance), arguments.seed), arguments.output)


def _give_instance(instance: Instance, output: str) -> int:
    """Save an instance, or with ``-`` write it to standard output, arrays inline."""
    from aigc_opt.instance.files import dump_json, save

    if output == "-":
        put(dump_json(instance.to_dict()))
    else:
        save(instance, output)
        say(f"wrote {output}: {instance.name}")
    return DONE


def _fit(arguments: argparse.Namespace) -> int:
    from aigc_opt.instance.files import dump_json
    from aigc_opt.instance.fit import fit
    from aigc_opt.instance.measurements import read_measurements

    check_writable(arguments.output)
    check_writable(arguments.plot)
    measurements = read_measurements(arguments.measurements)
    found = fit(measurements, arguments.quality, origin=arguments.measurements)
    for line in found.warnings:
        say(f"aigc-opt: warning: {line}")
    if arguments.output is None:
        print(found.summary())
    elif arguments.output == "-":
        put(dump_json(found.to_dict()))
    else:
        found.save(arguments.output)
        say(f"wrote {arguments.output}: {found.quality.kind}, R^2 {found.r2['quality']:.4f}")
    if arguments.plot is not None:
        from aigc_opt.plot.curves import save_fitted_curves

        save_fitted_curves(found, measurements, arguments.plot)
        say(f"wrote {arguments.plot}")
    return DONE


def _train(arguments: argparse.Namespace) -> int:
    from aigc_opt.control import Control
    from aigc_opt.instance.files import loaded_as
    from aigc_opt.instance.two_timescale import TwoTimescaleInstance

    try:
        from aigc_opt.learning.settings import read_settings
        from aigc_opt.learning.training import train
    except ImportError:
        words = 'training needs torch, which is not installed; get it with: pip install "aigc_opt[learn]"'
        raise MissingSolverError(words) from None
    process = loaded_as(TwoTimescaleInstance, arguments.instance)
    settings = read_settings(arguments.settings, arguments.algorithm)
    settings_words = "" if arguments.settings is None else f" --settings {arguments.settings}"
    command = (
        f"aigc-opt train {arguments.instance} --algorithm {arguments.algorithm} --seed {arguments.seed}"
        f"{settings_words} -o {arguments.output}"
    )
    show = None if arguments.quiet else lambda row: say(f"{row.elapsed_s:8.1f} s  {row.event}")
    control = Control(arguments.time_limit, show)
    trained = train(process, settings, arguments.seed, arguments.output, control, command)
    where = f"{arguments.output}: {trained.frames} of {trained.frames_wanted} frames"
    if trained.best is None:
        say(f"{where}, no agent validated yet; the same command goes on")
        return UNKNOWN
    goes_on = "" if trained.frames >= trained.frames_wanted else "; the same command goes on"
    say(f"{where}, the best agent's validated mean cost is {trained.best:.4f}{goes_on}")
    return DONE


def _evaluate(arguments: argparse.Namespace) -> int:
    from aigc_opt.evaluation import evaluate
    from aigc_opt.evaluation.report import check_picture
    from aigc_opt.instance.files import dump_json, load

    output = arguments.output
    check_writable(output)
    check_writable(arguments.picture)
    check_picture(arguments.picture)
    report = evaluate(
        load(arguments.instance),
        arguments.policy,
        arguments.episodes,
        arguments.seed,
        strict=arguments.strict,
        time_limit=arguments.time_limit,
        workers=arguments.workers or os.cpu_count() or 1,
        journal=None if output in (None, "-") else f"{output}.episodes",
        say=None if arguments.quiet else say,
    )
    if output not in (None, "-"):
        report.save(output)  # first: a picture or a reader that fails must not lose it
        say(f"wrote {output}")
    if arguments.picture is not None:
        report.save_picture(arguments.picture)
    if output == "-":
        put(dump_json(report.to_dict()))
    else:
        print(report.table())
    return DONE


def _export(arguments: argparse.Namespace) -> int:
    from aigc_opt import api

    api.export(arguments.instance, arguments.output)
    say(f"wrote {arguments.output}")
    return DONE


def _doctor(arguments: argparse.Namespace) -> int:
    from aigc_opt.doctor import examine

    section, good = "", True
    for finding in examine():
        if finding.section != section:
            section = finding.section
            print(section)
        print(f"  {finding.name:<16} {finding.text}", flush=True)
        good = good and finding.good
    print("All is well." if good else "Something is wrong: see the lines in capitals above.")
    return DONE if good else REFUSED


def _with_progress(arguments: argparse.Namespace, call: Callable[[Any], Any]) -> Any:
    from aigc_opt.control import ProgressLine

    line = None if arguments.quiet else ProgressLine()
    # The solve itself turns Ctrl-C into an end in order; one that comes a moment later must not lose what is written.
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGINT, lambda number, frame: None)
    try:
        return call(line)
    finally:
        if line is not None:
            line.close()


def _give(arguments: argparse.Namespace, instance: Any, result: Any, began: float) -> int:
    """Write or print a result, with a certificate if one is wanted, and return the exit status that it means."""
    from aigc_opt.instance.files import dump_json
    from aigc_opt.result import Status

    lines: list[str] = []
    if arguments.certify is not None:
        result, lines = _certify(arguments, instance, result, began)
    for line in lines if arguments.output is not None else []:
        say(line)
    if arguments.output is None:
        print("\n".join([_summary(instance, result), *lines]))
    else:
        if arguments.output == "-":
            put(dump_json(result.to_dict()))
        else:
            result.save(arguments.output)
            say(f"wrote {arguments.output}: {result!r}")
        for line in result.reasons:
            say(f"aigc-opt: infeasible: {_printable(line)}")
    if result.status is Status.INFEASIBLE:
        return REFUSED
    return UNKNOWN if result.status is Status.UNKNOWN else DONE


def _summary(instance: Any, result: Any) -> str:
    """Return what a person wants to know of a result."""
    from aigc_opt.problems.problem import problem_of

    slots = [f"{result.status}"]
    if result.limit is not None:
        slots.append(f"stopped by {result.limit}")
    lines = [f"{result.instance['name']} ({result.instance['problem']}), method {result.method}: {', '.join(slots)}"]
    if result.objective is not None:
        lines.append(f"  objective    {result.objective:.10g}  (checked)")
    if result.lower_bound is not None:
        lines.append(f"  lower bound  {result.lower_bound:.10g}  ({result.proof})")
    if result.gap is not None:
        lines.append(f"  gap          {100 * result.gap:.4g}%  (asked for {100 * result.gap_tolerance:.4g}%)")
    lines.append(f"  time         {result.runtime_s:.1f} s")
    if result.reasons:
        lines.append(f"No point exists ({result.proof}):")
        lines += [f"  {_printable(line)}" for line in result.reasons]
    if result.terms is not None:
        total = abs(result.objective) or 1.0
        lines.append("Terms of the objective:")
        lines += [f"  {name:<12} {value:14.4f}  {100 * value / total:5.1f}%" for name, value in result.terms.items()]
    if result.solution is not None:
        lines.append(problem_of(instance).summary(instance, result.solution))
    return "\n".join(lines)


def _printable(line: str) -> str:
    """Escape line breaks and the like that names of a file may hold."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in line)


# --------------------------------------------------------------------------------------------------------- parser


def _parser(words: list[str]) -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show the traceback of an error")
    watched = argparse.ArgumentParser(add_help=False)
    watched.add_argument("--time-limit", type=float, metavar="S", help="wall seconds; what is there then is given")
    watched.add_argument("--quiet", action="store_true", help="no progress on standard error")
    watched.add_argument("-o", dest="output", metavar="RESULT.json", help=OUTPUT_HELP)
    watched.add_argument(
        "--certify", choices=["exact"], help="also a bound in exact rational arithmetic: RESULT.certificate.json"
    )

    parser = argparse.ArgumentParser(
        prog="aigc-opt",
        description="Certified optimisation of AI-generated-content services at the edge.",
        parents=[common],
    )
    from importlib.metadata import PackageNotFoundError, version

    try:
        installed = version("aigc_opt")
    except PackageNotFoundError:
        installed = "not installed"
    parser.add_argument("--version", action="version", version=f"aigc-opt {installed}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(
        name: str, run: Callable[[argparse.Namespace], int], text: str, *parents: argparse.ArgumentParser
    ) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text, description=text, parents=[common, *parents])
        made.set_defaults(run=run)
        return made

    solve = command("solve", _solve, "Solve an instance: the best point, and a proven lower bound.", watched)
    solve.add_argument("instance", metavar="INSTANCE")
    solve.add_argument("--method", metavar="M", help="an exact one by default; a wrong name lists the others")
    solve.add_argument("--solver", metavar="S", help="solver of a method that uses one")
    solve.add_argument("--gap", type=float, default=1e-4, help="relative gap that counts as optimal (default 1e-4)")
    solve.add_argument("--seed", type=int, default=0)
    solve.add_argument("--no-bound", dest="bound", action="store_false", help="a heuristic's point alone, no bound")

    bound = command("bound", _bound, "Compute only a lower bound that holds for every feasible point.", watched)
    bound.add_argument("instance", metavar="INSTANCE")

    check = command("check", _check, "Check anybody's solution, result or certificate against an instance.")
    check.add_argument("instance", metavar="INSTANCE")
    check.add_argument("solution", metavar="FILE", help="a solution (JSON, npz), a result or a certificate")
    check.add_argument("--json", action="store_true", help="print the findings as JSON")

    generate = command("generate", _generate, "Make an instance of a seeded family.")
    problems = generate.add_subparsers(title="problems", metavar="PROBLEM", required=True, dest="problem")
    if "generate" in words:  # reading the generators' arguments takes time that other commands need not spend
        _generate_options(problems, common)

    sample = command("sample", _sample, "Draw one episode from a two-timescale process file.")
    sample.add_argument("instance", metavar="PROCESS.json")
    sample.add_argument("--seed", type=int, required=True, metavar="N")
    sample.add_argument("-o", dest="output", metavar="EPISODE.json", required=True, help="- = standard output")

    fit = command("fit", _fit, "Fit a model's profile to measured steps, quality loss, latency and energy.")
    fit.add_argument("measurements", metavar="MEASUREMENTS.csv")
    fit.add_argument(
        "--quality", default="auto", metavar="KIND",
        help="auto (default; the least BIC), piecewise_linear (breakpoints are found), exponential, power",
    )  # fmt: skip
    fit.add_argument("--plot", metavar="FILE", help="draw fit and residuals: .png, .svg or .pdf")
    fit.add_argument("-o", dest="output", metavar="PROFILE.json", help="write the profile here; - = standard output")

    train = command("train", _train, "Train a two-timescale agent on a process; goes on where it was stopped.")
    train.add_argument("instance", metavar="PROCESS.json")
    train.add_argument("--algorithm", default="t2drl", metavar="A", help="t2drl (default) or ddpg: the plain actor")
    train.add_argument("--seed", type=int, default=0, metavar="N")
    train.add_argument("--settings", metavar="SETTINGS.json", help="in the place of defaults (docs/learning.md)")
    train.add_argument("--time-limit", type=float, metavar="S", help="wall seconds; then a checkpoint, and the best")
    train.add_argument("--quiet", action="store_true", help="no progress on standard error")
    train.add_argument("-o", dest="output", metavar="FOLDER", required=True, help="of the agent, log and checkpoint")

    evaluate = command("evaluate", _evaluate, "Say how far policies are from the best possible, with confidence.")
    evaluate.add_argument("instance", metavar="INSTANCE_OR_PROCESS")
    words_of_policy = (
        "a baseline's name, module:name, a model file (.zip, .onnx, .pt), a trained agent's folder "
        "(FOLDER:cache = only its caches, optimal allocation), or a file of decisions"
    )
    evaluate.add_argument("--policy", metavar="P", action="append", required=True, help=words_of_policy)
    evaluate.add_argument("--episodes", type=int, metavar="N", help="of a process (default 100)")
    evaluate.add_argument("--seed", type=int, default=0, metavar="N", help="episode e is that of seed N + e")
    evaluate.add_argument("--strict", action="store_true", help="check raw decisions, do not amend them")
    evaluate.add_argument("--workers", type=int, metavar="W", help="processes (default: one a processor)")
    evaluate.add_argument(
        "--time-limit", type=float, metavar="S", help="seconds of each hindsight solve; not of sampling"
    )
    evaluate.add_argument("--picture", metavar="FILE.svg", help="draw costs and bounds")
    evaluate.add_argument("--quiet", action="store_true", help="no progress on standard error")
    evaluate.add_argument(
        "-o", dest="output", metavar="REPORT.json", help="resumes if it was stopped; - = the JSON only"
    )

    export = command("export", _export, "Write an instance's formulation: .lp, .mps (the program) or .tex.")
    export.add_argument("instance", metavar="INSTANCE")
    export.add_argument("-o", dest="output", metavar="FILE", required=True)

    command("doctor", _doctor, "Show versions, extras, solvers and hardware, and test each problem on a tiny instance.")

    add_exploring(command)
    add_bench(command)
    return parser


def _generate_options(problems: Any, common: argparse.ArgumentParser) -> None:
    """Make a command of each problem's generator, and an option of each of the generator's arguments."""
    from aigc_opt.instance.generate import FAMILIES, GENERATORS

    for problem, generator in GENERATORS.items():
        text = (inspect.getdoc(generator) or problem).splitlines()[0]
        made = problems.add_parser(problem, parents=[common], help=text, description=text)
        arguments = inspect.signature(generator).parameters.values()
        made.set_defaults(generator_options=[argument.name for argument in arguments])
        for argument in arguments:
            kind = type(argument.default) if argument.default is not None else str
            shown = "" if argument.default is None else f"default {argument.default}"
            if argument.name == "family":
                shown = f"one of {', '.join(FAMILIES[problem])}; {shown}"
            made.add_argument(f"--{argument.name.replace('_', '-')}", type=kind, help=shown)
        made.add_argument("-o", dest="output", metavar="FILE", required=True, help="- = standard output")
