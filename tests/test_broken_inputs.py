"""The strict door: every broken file is refused with all its faults, by path, in words; nothing is written."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from aigc_opt.errors import InputError
from aigc_opt.instance import files
from aigc_opt.instance.deployment import DeploymentInstance
from aigc_opt.instance.files import INSTANCE_BYTES, NPZ_BYTES, load, read_json
from tests.conftest import edited

BROKEN = Path(__file__).parent / "broken"
EXAMPLES = Path(__file__).parent.parent / "instances" / "examples"
EXPECTED = json.loads((BROKEN / "expected.json").read_text(encoding="utf-8"))

# One of each kind for the command line; all of them in the long test.
REPRESENTATIVE = [
    "text-binary.json",
    "number-5000-digits.json",
    "deployment-everything-wrong.json",
    "npz-objects.json",
]

MEGABYTE = 2**20
LARGER = {
    "spaces": (b" " * MEGABYTE, 200),
    "zero-bytes": (b"\0" * MEGABYTE, 200),
    "brackets": (b"[" * MEGABYTE, 200),
    "zeros": (b"0," * (MEGABYTE // 2), 200),
}
BIG = {
    "spaces-within-the-limit": (b" " * MEGABYTE, INSTANCE_BYTES // MEGABYTE),
    "zero-bytes-within-the-limit": (b"\0" * MEGABYTE, INSTANCE_BYTES // MEGABYTE),
    "brackets-within-the-limit": (b"[" * MEGABYTE, INSTANCE_BYTES // MEGABYTE),
    "zeros-within-the-limit": (b"0," * (MEGABYTE // 2), INSTANCE_BYTES // MEGABYTE),
}


def faults_in(path):
    with pytest.raises(InputError) as caught:
        load(path)
    return caught.value.lines()


def example(name):
    return json.loads((EXAMPLES / f"{name}.json").read_text(encoding="utf-8"))


def command(*arguments):
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "aigc_opt", *map(str, arguments)], capture_output=True, encoding="utf-8", timeout=120
    )
    return done, time.monotonic() - started


def assert_refused(done, faults=1, fragments=()):
    """Exit status 2, one line a fault on standard error, nothing on standard output, no traceback."""
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr and "internal error" not in done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == faults, done.stderr
    assert all(line.startswith("aigc-opt: ") for line in lines)
    for fragment in fragments:
        assert fragment in done.stderr


# ---------------------------------------------------------------------------------------------- the folder of files


def test_expected_names_every_file():
    assert {path.name for path in BROKEN.glob("*.json")} - {"expected.json"} == set(EXPECTED)
    assert len(EXPECTED) >= 50


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_all_faults_together(name):
    expected = EXPECTED[name]
    path = BROKEN / name
    lines = faults_in(path)
    assert len(lines) == expected["faults"], lines
    for line in lines:
        assert line.startswith(f"{path}: ")
        assert line.isprintable()
    told = [line.removeprefix(f"{path}: ") for line in lines]
    for fragment in expected["lines"]:
        assert any(line.startswith(fragment) for line in told), (fragment, told)
    if len(expected["lines"]) == expected["faults"]:
        for line in told:
            assert any(line.startswith(fragment) for fragment in expected["lines"]), line


def refuse_on_the_command_line(name, output, tmp_path):
    old = tmp_path / "old.json"
    old.write_text("as it was")
    done, seconds = command("solve", BROKEN / name, "-o", tmp_path / output)
    assert_refused(done, EXPECTED[name]["faults"])
    assert all(line.startswith(f"aigc-opt: {BROKEN / name}: ") for line in done.stderr.splitlines())
    assert os.listdir(tmp_path) == ["old.json"]
    assert old.read_text() == "as it was"
    return seconds


@pytest.mark.parametrize(("name", "output"), [*zip(REPRESENTATIVE, ["new.json", "old.json"] * 2, strict=True)])
def test_command_line(name, output, tmp_path):
    refuse_on_the_command_line(name, output, tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_command_line_long(name, tmp_path):
    assert refuse_on_the_command_line(name, "new.json", tmp_path) < 2


# ---------------------------------------------------------------------------------- files that are made at run time


@pytest.mark.parametrize("name", [*BIG, "zeros"])
def test_big_files_of_nothing(name, tmp_path):
    part, times = (BIG | LARGER)[name]
    path = tmp_path / "big.json"
    with open(path, "wb") as file:
        for _ in range(times):
            file.write(part)
    lines = faults_in(path)
    path.unlink()
    assert len(lines) == 1 and len(lines[0]) < 400


@pytest.mark.long
@pytest.mark.parametrize("name", [*BIG, *LARGER])
def test_big_files_of_nothing_long(name, tmp_path):
    part, times = (BIG | LARGER)[name]
    path = tmp_path / "big.json"
    path.write_bytes(part * times)
    for arguments in (("solve", path), ("check", EXAMPLES / "deployment-small.json", path)):
        done, seconds = command(*arguments)
        assert_refused(done)
        assert seconds < 2
    path.unlink()


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "[" * 100_000 + "]" * 100_000])
def test_deep_nesting(text, tmp_path):
    path = tmp_path / "deep.json"
    path.write_text(text)
    assert faults_in(path) == [f"{path}: is nested too deep, expected one JSON object"]


def test_deep_nesting_with_keys_twice(tmp_path):
    """As deep as the parser goes, which is deeper than Python functions may call each other from here."""
    path = tmp_path / "deep.json"
    head = json.dumps(example("deployment-small"))[1:]
    path.write_text('{"deep":' + "[" * 900 + '{"a":1,"a":2}' + "]" * 900 + "," + head)
    assert faults_in(path) == [f"{path}: deep{'[0]' * 900}.a: stands more than once", f"{path}: deep: unknown key"]


KEYS = (
    [
        ("deployment-initial", key)
        for key in ("models", "servers", "cloud_delay_s", "peer_delay_s", "arrivals", "initial", "weights", "slot_s")
    ]
    + [("offloading-small", key) for key in ("models", "users", "servers", "steps", "weights")]
    + [
        ("two-timescale-small", key)
        for key in ("models", "edge", "user_power_w", "cloud", "initial_cache", "requests", "serve_all_hits")
    ]
    + [("two-timescale-process", "process")]
)
ALLOWED = [("null", "peer_delay_s"), ("null", "initial"), ("null", "initial_cache"), ("{}", "weights")]


@pytest.mark.parametrize(
    ("name", "key", "text"),
    [
        (name, key, text)
        for name, key in KEYS
        for text in ("[]", "[[[]]]", '"x"', "{}", "[{}]", "null")
        if (text, key) not in ALLOWED
    ],
)
def test_any_other_kind_of_value_is_refused_in_words(name, key, text, tmp_path):
    value = json.loads(text)
    path = tmp_path / "file.json"
    path.write_text(json.dumps({**example(name), key: value}))
    lines = faults_in(path)
    assert any(line.startswith(f"{path}: {key}") for line in lines) or name == "offloading-small"
    assert all("Input should" not in line for line in lines)  # pydantic's own words


def test_a_large_file_that_starts_wrong_is_not_read(tmp_path):
    path = tmp_path / "large.json"
    path.write_bytes(b" \n[" + b"1," * 2**20)
    assert faults_in(path) == [f"{path}: is not one JSON object: starts with '['"]
    path.write_bytes(b"\xef\xbb\xbf  " + b" " * 2**20 + b"{}")
    assert "is not one JSON object" not in faults_in(path)[0]


def test_folder(tmp_path):
    assert faults_in(tmp_path) == [f"{tmp_path}: is a folder, expected a file"]


def test_missing_file(tmp_path):
    assert faults_in(tmp_path / "none.json") == [f"{tmp_path / 'none.json'}: there is no such file"]
    assert faults_in(tmp_path / "none" / "none.json") == [f"{tmp_path / 'none' / 'none.json'}: there is no such file"]


def test_file_below_a_file(tmp_path):
    (tmp_path / "file").write_text("{}")
    (line,) = faults_in(tmp_path / "file" / "below.json")
    assert "cannot be read" in line


def test_name_too_long_and_name_with_zero_byte(tmp_path):
    for name in ("x" * 5000, "a\0b"):
        (line,) = faults_in(tmp_path / name)
        assert "cannot be read" in line


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may read everything")
def test_unreadable_file(tmp_path):
    path = tmp_path / "secret.json"
    path.write_text("{}")
    path.chmod(0)
    assert faults_in(path) == [f"{path}: cannot be read: Permission denied"]


def test_unreadable_file_whoever_runs_the_test(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(files, "open", refuse, raising=False)
    assert faults_in(tmp_path / "secret.json") == [f"{tmp_path / 'secret.json'}: cannot be read: Permission denied"]


def write(tmp_path, data):
    path = tmp_path / "file.json"
    path.write_text(json.dumps(data))
    return path


def test_faults_are_counted_where_there_are_too_many(tmp_path):
    data = example("deployment-initial")
    data["arrivals"] = [[[-1] * 5] * 3] * 10
    lines = faults_in(write(tmp_path, data))
    assert len(lines) == 21
    assert lines[-1].endswith("arrivals: and 130 more entries like these")
    data["models"] = [{}] * 5000
    data["arrivals"] = [[[0] * 5000] * 3]
    lines = faults_in(write(tmp_path, data))
    assert len(lines) < 1100
    assert any("were not looked at" in line for line in lines)


def test_thousands_of_keys(tmp_path):
    data = example("deployment-small")
    data["servers"][0] |= {f"key-{index}": 0 for index in range(5000)}
    (line,) = faults_in(write(tmp_path, data))
    assert "servers[0]: must be an object with some of the keys name, storage_gb" in line


def test_long_texts_are_shortened(tmp_path):
    data = example("offloading-small")
    data["users"][0]["model"] = "x" * 100_000
    data["y" * 100_000] = 1
    data["servers"][1]["hosts"] = ["z" * 100_000]
    data["users"][1]["name"] = data["users"][2]["name"] = "w" * 100_000
    lines = faults_in(write(tmp_path, data))
    assert len(lines) == 4
    assert all(len(line) < 400 for line in lines)


def test_hosts_of_many_names_take_no_quadratic_time(tmp_path):
    data = example("offloading-small")
    data["servers"][1]["hosts"] = [f"model-{index}" for index in range(100_000)]
    started = time.monotonic()
    assert len(faults_in(write(tmp_path, data))) <= 1001
    assert time.monotonic() - started < 20


def test_npz_larger_than_what_is_read(tmp_path, monkeypatch):
    shape = (4, 3, 4)
    arrays = {key: np.ones(shape) for key in files.REQUEST_ARRAYS} | {"model": np.zeros(shape, np.int64)}
    np.savez(tmp_path / "requests.npz", **arrays)
    path = write(tmp_path, example("two-timescale-small") | {"requests": {"npz": "requests.npz"}})
    load(path)
    assert NPZ_BYTES >= 2**28
    monkeypatch.setattr(files, "NPZ_BYTES", 1000)
    (line,) = faults_in(path)
    assert "requests.npz: 'requests.npz' is larger than" in line


def test_npz_through_a_folder_of_that_name(tmp_path):
    (tmp_path / "requests.npz").mkdir()
    path = write(tmp_path, example("two-timescale-small") | {"requests": {"npz": "requests.npz"}})
    (line,) = faults_in(path)
    assert "requests.npz: 'requests.npz' cannot be read" in line


@pytest.mark.parametrize("data", [None, 5, "text", [1], True])
def test_from_dict_of_something_else(data):
    with pytest.raises(InputError, match="must be one JSON object"):
        DeploymentInstance.from_dict(data)


def test_arrays_of_a_program_are_judged_like_lists():
    data = example("deployment-initial")
    good = DeploymentInstance.from_dict(data)
    data["arrivals"] = np.array(data["arrivals"])
    data["initial"] = {key: np.array(value) for key, value in data["initial"].items()}
    assert DeploymentInstance.from_dict(data) == good
    data["initial"]["loaded"][0, 1] = 1
    data["peer_delay_s"] = np.ones((3, 3))
    with pytest.raises(InputError) as caught:
        DeploymentInstance.from_dict(data)
    assert [fault.path for fault in caught.value.faults] == [
        "peer_delay_s[0][0]",
        "peer_delay_s[1][1]",
        "peer_delay_s[2][2]",
        "initial.loaded[0][1]",
    ]


def test_read_json_refuses_more_than_its_limit(tmp_path):
    path = write(tmp_path, {"a": "x" * 100})
    assert read_json(path, 1000)["a"]
    with pytest.raises(InputError, match="larger than"):
        read_json(path, 100)


# ---------------------------------------------------------------------------------------- broken solutions, results


@pytest.fixture(scope="module")
def solved(tmp_path_factory):
    """A result of the small deployment example, as data."""
    path = tmp_path_factory.mktemp("solved") / "result.json"
    done, _ = command("solve", EXAMPLES / "deployment-small.json", "--quiet", "-o", path)
    assert done.returncode == 0, done.stderr
    return json.loads(path.read_text())


SOLUTION_FAULTS = {
    "stored missing": (("stored", KeyError), ["stored: is required, but missing"]),
    "slots": (("stored", []), ["stored: must have "]),
    "row": (("loaded", 0, 0, [0]), ["loaded[0][0]: must have "]),
    "scalar": (("routing", 5), ["routing: must be a list, got 5"]),
    "NaN": (("routing", 0, 0, 0, 0, float("nan")), ["routing[0][0][0][0]: must be a finite number, got NaN"]),
    "text": (("stored", 0, 0, 0, "1"), ["stored[0][0][0]: must be a number, got text '1'"]),
    "true": (("stored", 0, 0, 0, True), ["stored[0][0][0]: must be a number, got true"]),
    "null": (("loaded", 0, 0, 0, None), ["loaded[0][0][0]: must be a number, got null"]),
    "unknown key": (("cached", []), ["cached: unknown key"]),
}

RESULT_FAULTS = {
    "another instance": (("instance", "sha256", "0" * 64), ["instance.sha256: this is the result of another instance"]),
    "no head": (("instance", KeyError), ["instance.sha256: "]),
    "version": (("version", 2), ["version: must be 1, got 2"]),
    "no solution": (("solution", None), ["solution: this result has no solution"]),
    "solution missing": (("solution", KeyError), ["solution: this result has no solution"]),
    "gap text": (("gap", "1%"), ["gap: must be a finite number or null"]),
    "tolerance list": (("gap_tolerance", [1]), ["gap_tolerance: must be a finite number >= 0, got a list of 1"]),
    "tolerance negative": (("gap_tolerance", -1), ["gap_tolerance: must be a finite number >= 0, got -1"]),
    "tolerance null": (("gap_tolerance", None), ["gap_tolerance: must be a finite number >= 0, got null"]),
    "method number": (("method", 3), ["method: must be a text, got 3"]),
    "limit": (("limit", "patience"), ["limit: must be time or iterations or interrupt or null, got text 'patience'"]),
    "status list": (("status", ["optimal"]), ["status: must be optimal or "]),
    "runtime": (("runtime_s", -0.1), ["runtime_s: must be a finite number >= 0, got -0.1"]),
    "seed": (("seed", 0.5), ["seed: must be an integer >= 0, got 0.5"]),
    "seed true": (("seed", True), ["seed: must be an integer >= 0, got true"]),
    "versions": (("versions", "numpy", 2), ["versions: must be an object of texts"]),
    "certificate": (("certificate", "dual"), ["certificate: must be an object with point and bound, got text 'dual'"]),
    "certificate without point": (
        ("certificate", "point", KeyError),
        ["certificate: must be an object with point and"],
    ),
    "point": (("certificate", "point", True), ["certificate.point: must be none or checked, got true"]),
    "proof": (("certificate", "bound", "mine"), ["certificate.bound: must be none or solver or dual or enumeration, "]),
    "trace": (("trace", {}), ["trace: must be a list of objects with elapsed_s, objective, lower_bound, event"]),
    "trace row": (("trace", 0, "event", KeyError), ["trace: must be a list of objects with "]),
    "trace seconds": (("trace", 0, "elapsed_s", -1), ["trace[0].elapsed_s: must be a finite number >= 0, got -1"]),
    "trace bound": (("trace", 0, "lower_bound", "1"), ["trace[0].lower_bound: must be a finite number or null"]),
    "trace event": (("trace", 0, "event", None), ["trace[0].event: must be a text, got null"]),
    "objective NaN": (("objective", float("nan")), ["objective: must be a finite number or null"]),
    "bound text": (("lower_bound", "1"), ["lower_bound: must be a finite number or null"]),
    "terms": (("terms", [1]), ["terms: must be an object of finite numbers or null"]),
    "solution list": (("solution", [1]), ["must be an object, got a list of 1"]),
    "solution shape": (("solution", "stored", []), ["stored: must have "]),
}


def refuse_check(data, tmp_path, capsys, fragments, through):
    from aigc_opt.cli import main

    path = tmp_path / "point.json"
    path.write_text(json.dumps(data))
    arguments = ["check", str(EXAMPLES / "deployment-small.json"), str(path)]
    if through == "subprocess":
        done, _ = command(*arguments)
        assert_refused(done, len(fragments), fragments)
        return
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    lines = printed.err.splitlines()
    assert len(lines) == len(fragments)
    for line, fragment in zip(lines, fragments, strict=True):
        assert line.startswith(f"aigc-opt: {path}: ") and fragment in line


@pytest.mark.parametrize("name", SOLUTION_FAULTS)
def test_broken_solution(name, solved, tmp_path, capsys):
    edit, fragments = SOLUTION_FAULTS[name]
    through = "subprocess" if name == "NaN" else "main"
    refuse_check(edited(solved["solution"], *edit), tmp_path, capsys, fragments, through)


@pytest.mark.parametrize("name", RESULT_FAULTS)
def test_broken_result(name, solved, tmp_path, capsys):
    edit, fragments = RESULT_FAULTS[name]
    through = "subprocess" if name == "another instance" else "main"
    refuse_check(edited(solved, *edit), tmp_path, capsys, fragments, through)


@pytest.mark.parametrize(
    ("edit", "fragment"),
    [
        (("objective", 10**320), "objective: must be a finite number or null"),
        (("terms", "delay", 10**320), "terms: must be an object of finite numbers or null"),
        (("version", True), "version: must be 1, got true"),
        (("colour", 1), "colour: unknown key"),
        (("status", "fine"), "status: must be "),
        (("solution", "stored", []), "solution.stored: must have "),
    ],
)
def test_broken_result_finer(edit, fragment, solved, tmp_path, capsys):
    refuse_check(edited(solved, *edit), tmp_path, capsys, [fragment], "main")


@pytest.mark.parametrize("name", sorted(name for name in EXPECTED if name.startswith(("text-", "json-a", "json-n"))))
def test_solution_that_is_no_object(name, capsys):
    from aigc_opt.cli import main

    assert main(["check", str(EXAMPLES / "deployment-small.json"), str(BROKEN / name)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert EXPECTED[name]["lines"][0] in line


# ---------------------------------------------------------------------------------------------------- bad arguments


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (["--gap", "-1"], "gap must be a finite number >= 0, got -1"),
        (["--gap", "nan"], "gap must be a finite number >= 0, got nan"),
        (["--gap", "inf"], "gap must be a finite number >= 0, got inf"),
        (["--time-limit", "0"], "time limit must be a finite number of seconds > 0, got 0"),
        (["--time-limit", "-3"], "time limit must be a finite number of seconds > 0, got -3"),
        (["--time-limit", "nan"], "time limit must be a finite number of seconds > 0, got nan"),
        (["--method", "nonsense"], "method must be one of "),
        (["--solver", "nonsense"], "solver must be one of "),
        (["--seed", "-1"], "seed must be an integer >= 0, got -1"),
        (["-o", "{folder}/none/result.json"], "cannot be written"),
        (["-o", "{folder}"], "cannot be written: is a folder, expected a file"),
    ],
)
def test_bad_arguments(arguments, fragment, tmp_path, capsys):
    from aigc_opt.cli import main

    output = tmp_path / "result.json"
    arguments = [part.format(folder=tmp_path) for part in arguments]
    last = [] if "-o" in arguments else ["-o", str(output)]
    assert main(["solve", str(EXAMPLES / "deployment-small.json"), "--quiet", *arguments, *last]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert fragment in line
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("arguments", [["--gap", "much"], ["--seed", "1.5"], ["--colour"], ["--time-limit"]])
def test_arguments_that_cannot_be_parsed(arguments, capsys):
    from aigc_opt.cli import main

    with pytest.raises(SystemExit) as caught:
        main(["solve", str(EXAMPLES / "deployment-small.json"), *arguments])
    assert caught.value.code == 2
    assert capsys.readouterr().out == ""


def test_two_bad_arguments_in_a_subprocess():
    done, _ = command("solve", EXAMPLES / "deployment-small.json", "--gap", "-1", "--method", "nonsense")
    assert_refused(done, 2, ["gap must be", "method must be one of"])
