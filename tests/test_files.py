"""Files that are good: round trips, the canonical form that sha256 is of, and writing that is whole or not at all."""

import json
import math
import os
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from aigc_opt.errors import InputError
from aigc_opt.instance import files
from aigc_opt.instance.base import canonical_json
from aigc_opt.instance.files import INSTANCES, REQUEST_ARRAYS, dump_json, load, read_json, save, write_text
from tests.conftest import edited

EXAMPLES = Path(__file__).parent.parent / "instances" / "examples"
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.json") if path.stem != "optima")

# Beside what conftest.py fixes (the same examples every time).
FEW = settings(max_examples=15)


def example(name):
    return json.loads((EXAMPLES / f"{name}.json").read_text(encoding="utf-8"))


def instance_of(data):
    return INSTANCES[data["problem"]].from_dict(data)


def sha(data):
    return instance_of(data).sha256


def mapped(value, function):
    if isinstance(value, dict):
        return {key: mapped(item, function) for key, item in value.items()}
    if isinstance(value, list):
        return [mapped(item, function) for item in value]
    return function(value)


def backwards(value):
    if isinstance(value, dict):
        return {key: backwards(value[key]) for key in reversed(value)}
    return [backwards(item) for item in value] if isinstance(value, list) else value


# ------------------------------------------------------------------------------------------------------ round trips


@pytest.mark.parametrize("name", NAMES)
def test_dict_round_trip(name):
    instance = instance_of(example(name))
    again = instance_of(instance.to_dict())
    assert again == instance and hash(again) == hash(instance)
    assert again.to_dict() == instance.to_dict()
    assert instance_of(json.loads(dump_json(instance.to_dict()))) == instance


@pytest.mark.parametrize("name", NAMES)
def test_file_round_trip(name, tmp_path):
    instance = load(EXAMPLES / f"{name}.json")
    save(instance, tmp_path / "again.json")
    again = load(tmp_path / "again.json")
    assert again.sha256 == instance.sha256
    assert again.to_dict() == instance.to_dict()
    save(again, tmp_path / "third.json")
    assert (tmp_path / "third.json").read_bytes() == (tmp_path / "again.json").read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_values_survive(name):
    data = example(name)
    kept = instance_of(data).to_dict()

    def same(given, read, path=""):
        if isinstance(given, dict):
            for key, value in given.items():
                same(value, read[key], f"{path}.{key}")
        elif isinstance(given, list):
            assert len(given) == len(read), path
            for index, value in enumerate(given):
                same(value, read[index], f"{path}[{index}]")
        else:
            assert given == read, path

    same(data, kept)


@pytest.mark.parametrize("name", NAMES)
def test_numbers_and_arrays_of_numpy_are_read_like_those_of_python(name):
    data = example(name)
    expected = instance_of(data)

    def as_numpy(value):
        return {bool: np.bool_, int: np.int64, float: np.float64}.get(type(value), lambda value: value)(value)

    def as_arrays(value):
        if isinstance(value, dict):
            return {key: as_arrays(item) for key, item in value.items()}
        if isinstance(value, list) and value and all(type(item) in (int, float) for item in value):
            return np.array(value)  # in nested lists: lists of arrays
        if isinstance(value, list):
            return [as_arrays(item) for item in value]
        return value

    head = {"format": data["format"], "version": np.int64(1)}
    assert instance_of({**mapped(data, as_numpy), **head}) == expected
    assert instance_of(as_arrays(data)) == expected


def test_what_numpy_holds_is_judged_like_what_python_holds():
    data = example("deployment-small")
    arrivals = np.array(data["arrivals"], np.float32)
    whole = instance_of({**data, "arrivals": list(arrivals)})  # a list of arrays, one a slot
    assert whole == instance_of({**data, "arrivals": arrivals})
    slots = pd.DataFrame({"slot_s": [300.0, -1.0]}).slot_s
    assert instance_of({**data, "slot_s": slots[0]}).slot_s == 300.0
    with pytest.raises(InputError, match=r"slot_s: must be >= 0, got -1.0"):
        instance_of({**data, "slot_s": slots[1]})
    with pytest.raises(InputError, match=r"slot_s: must be a number, got a list of 2"):
        instance_of({**data, "slot_s": np.array(["a", "b"])})
    with pytest.raises(InputError, match=r"slot_s: must be a finite number, got NaN"):
        instance_of({**data, "slot_s": np.array(np.nan)})
    delays = pd.Series(data["cloud_delay_s"])
    assert instance_of({**data, "cloud_delay_s": delays}) == instance_of(data)


def test_instances_are_frozen():
    instance = load(EXAMPLES / "deployment-small.json")
    with pytest.raises(ValueError, match="frozen"):
        instance.name = "other"
    with pytest.raises(ValueError, match="read-only"):
        instance.arrivals[0, 0, 0] = 1


def test_errors_survive_pickling():
    with pytest.raises(InputError) as caught:
        instance_of(edited(example("deployment-small"), "slot_s", -1))
    again = pickle.loads(pickle.dumps(caught.value))
    assert again.lines() == caught.value.lines()


# --------------------------------------------------------------------------------------------------- canonical form


@pytest.mark.parametrize("name", NAMES)
def test_sha256_is_blind_to_how_it_is_written(name):
    data = example(name)
    expected = sha(data)
    assert len(expected) == 64
    assert sha(backwards(data)) == expected

    def as_float(value):
        return float(value) if type(value) is int else value

    def as_integer(value):
        return int(value) if type(value) is float and value.is_integer() else value

    assert sha({**mapped(data, as_float), "version": 1.0}) == expected
    assert sha(mapped(data, as_integer)) == expected
    assert sha({**data, "description": "other words", "source": "elsewhere"}) == expected
    for key in ("description", "source"):
        assert sha({other: value for other, value in data.items() if other != key}) == expected
    models = [{**model, "source": "measured"} for model in data["models"]]
    assert sha({**data, "models": models}) == expected
    assert sha(instance_of(data).to_dict()) == expected  # every default written out


DEFAULTS = [
    ("deployment-small", ("slot_s",), 300),
    ("deployment-small", ("weights",), {"delay": 1, "switching": 1, "storage": 1, "gpu_memory": 1}),
    ("deployment-small", ("weights", "switching"), 1),
    ("deployment-small", ("initial",), None),
    ("deployment-small", ("peer_delay_s",), None),
    ("deployment-small", ("servers", 0, "gpu_s"), None),
    ("deployment-small", ("servers", 0, "energy_j"), None),
    ("deployment-small", ("models", 0, "warmup_s"), 0),
    ("deployment-small", ("models", 0, "load_j"), 0),
    ("deployment-small", ("models", 0, "energy"), {"base_j": 0, "per_step_j": 0}),
    ("deployment-small", ("models", 0, "energy", "base_j"), 0),
    ("offloading-small", ("users", 0, "weight"), 1),
    ("offloading-small", ("users", 0, "rejection_penalty"), None),
    ("offloading-small", ("servers", 0, "hosts"), None),
    ("offloading-small", ("weights",), {"quality": 1, "delay": 1, "energy": 1}),
    ("offloading-small", ("models", 0, "warmup_s"), 0),
    ("two-timescale-small", ("edge", "min_steps"), 1),
    ("two-timescale-small", ("edge", "noise_dbm_per_hz"), -174),
    ("two-timescale-small", ("serve_all_hits",), True),
    ("two-timescale-small", ("initial_cache",), None),
    ("two-timescale-small", ("weights",), {"delay": 0.7, "quality": 0.3, "switching": 0}),
    ("two-timescale-process", ("process", "request_probability"), 1),
    ("two-timescale-process", ("process", "path_loss_db"), {"intercept": 128.1, "slope": 37.6}),
    ("two-timescale-process", ("process", "path_loss_db", "slope"), 37.6),
]


@pytest.mark.parametrize(("name", "path", "default"), DEFAULTS)
def test_sha256_is_blind_to_defaults(name, path, default):
    written = edited(example(name), *path, default)
    assert sha(written) == sha(edited(written, *path, KeyError))


def leaves(value, path=()):
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from leaves(item, (*path, index))
    else:
        yield path, value


@pytest.mark.parametrize("name", ["deployment-initial", "offloading-small", "two-timescale-small"])
def test_sha256_sees_everything_else(name):
    data = example(name)
    expected = sha(data)
    tried = 0
    for path, value in leaves(data):
        if path[0] in ("format", "version", "problem", "description", "source") or isinstance(value, str):
            continue
        if path[0] == "requests" and value is None:
            continue  # no request: see below
        if isinstance(value, bool):
            others = [not value]
        elif value is None:
            others = [1, 0.5]
        else:
            others = [value * 1.001, value + 1, value / 2]
        for other in others:
            try:
                found = sha(edited(data, *path, other))
            except InputError:
                continue  # not allowed there
            tried += 1
            assert found != expected or other == value, path
            break
    assert tried > 50
    assert sha({**data, "name": "other"}) != expected


def test_sha256_of_one_file_stays_what_it_was():
    """The canonical form is part of the file format: results of other versions name it."""
    data = {
        "format": "aigc-opt/instance", "version": 1, "problem": "offloading", "name": "tiny \u00e9",
        "models": [
            {"name": "m", "workload": {"base_gcycles": 1, "per_step_gcycles": 0.5},
             "quality": {"kind": "piecewise_linear", "points": [[1, 2.5]]}}
        ],
        "users": [
            {"name": "u", "model": "m", "input_mbit": 1e-7, "output_mbit": 0, "max_delay_s": 1e21, "battery_j": 5,
             "transmit_power_w": 1, "uplink_mbps": [], "downlink_mbps": [], "device": None}
        ],
        "servers": [], "steps": {"min": 1, "max": 9007199254740992, "stride": 1},
    }  # fmt: skip
    expected = (
        '{"format":"aigc-opt/instance","models":[{"energy":{"base_j":0,"per_step_j":0},"load_j":0,"name":"m",'
        '"quality":{"kind":"piecewise_linear","points":[[1,2.5]]},"warmup_s":0,'
        '"workload":{"base_gcycles":1,"per_step_gcycles":0.5}}],"name":"tiny \u00e9",'
        '"problem":"offloading","servers":[],'
        '"steps":{"max":9007199254740992,"min":1,"stride":1},"users":[{"battery_j":5,"device":null,"downlink_mbps":[],'
        '"input_mbit":1e-7,"max_delay_s":1e+21,"model":"m","name":"u","output_mbit":0,"rejection_penalty":null,'
        '"transmit_power_w":1,"uplink_mbps":[],"weight":1}],"version":1,'
        '"weights":{"delay":1,"energy":1,"quality":1}}'
    )
    assert instance_of(data).canonical().decode("utf-8") == expected


NUMBERS = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(-(10**18), 10**18),
    st.builds(lambda digits, exponent: digits * 10.0**exponent, st.integers(-(10**17), 10**17), st.integers(-40, 20)),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.text(max_size=4) | NUMBERS | st.lists(NUMBERS | st.none(), max_size=6),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
)


@given(JSON)
def test_canonical_form_is_rfc_8785(value):
    def doubles(value):
        if isinstance(value, dict):
            return {key: doubles(item) for key, item in value.items()}
        if isinstance(value, list):
            return [doubles(item) for item in value]
        return float(value) if isinstance(value, int) and not isinstance(value, bool) else value

    assert canonical_json(value) == rfc8785.dumps(doubles(value))


# ------------------------------------------------------------------------------------------------- requests and npz


def arrays_of(data):
    requests = data["requests"]
    arrays = {
        key: np.array(
            [[[math.nan if item is None else item for item in row] for row in rows] for rows in requests[key]]
        )
        for key in REQUEST_ARRAYS
    }
    arrays["model"] = np.where(np.isnan(arrays["model"]), -1, arrays["model"]).astype(np.int64)
    return arrays


@pytest.mark.parametrize("saver", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("rubbish", [math.nan, -5.0, math.inf, 3.0])
def test_npz_is_the_same_as_inline(saver, rubbish, tmp_path):
    data = example("two-timescale-small")
    arrays = arrays_of(data)
    for key in REQUEST_ARRAYS[1:]:
        arrays[key][arrays["model"] == -1] = rubbish
    saver(tmp_path / "requests.npz", **arrays)
    (tmp_path / "file.json").write_text(json.dumps({**data, "requests": {"npz": "requests.npz"}}))
    read = load(tmp_path / "file.json")
    assert read == load(EXAMPLES / "two-timescale-small.json")
    assert read.to_dict()["requests"] == instance_of(data).to_dict()["requests"]
    assert read.requests.model.dtype == np.int64 and not read.requests.model.flags.writeable
    assert np.isnan(read.requests.uplink_gain[read.requests.model < 0]).all()


def test_values_at_null_requests_do_not_count():
    data = example("two-timescale-small")
    expected = sha(data)
    place = next(path for path, value in leaves(data["requests"]["model"]) if value is None)
    for value in (0, 1, 7.25, None):
        other = data
        for key in REQUEST_ARRAYS[1:]:
            other = edited(other, "requests", key, *place, value)
        assert sha(other) == expected
    assert sha(edited(data, "requests", "model", 0, 0, 0, None)) != expected


# ------------------------------------------------------------------------------------------------------ small rules


def test_whole_floats_are_integers():
    data = edited(example("offloading-small"), "steps", {"min": 10.0, "max": 50.0, "stride": 1e1})
    assert instance_of(data).steps.stride == 10 and type(instance_of(data).steps.stride) is int
    process = edited(example("two-timescale-process"), "process", "frames", 10.0)
    assert sha(process) == sha(example("two-timescale-process"))
    initial = example("deployment-initial")
    floats = mapped(initial["initial"], float)
    assert instance_of({**initial, "initial": floats}).initial.stored.dtype == np.int64
    assert sha({**initial, "version": 1.0, "initial": floats}) == sha(initial)


def test_what_may_be_null_may_be_null():
    deployment = example("deployment-initial")
    for path in (("initial",), ("peer_delay_s",), ("servers", 0, "gpu_s"), ("servers", 0, "energy_j")):
        instance_of(edited(deployment, *path, None))
    offloading = example("offloading-small")
    for path in (("users", 0, "device"), ("users", 0, "rejection_penalty"), ("servers", 1, "hosts")):
        instance_of(edited(offloading, *path, None))
    instance_of(edited(example("two-timescale-small"), "initial_cache", None))


def test_offloading_may_have_no_servers():
    data = example("offloading-small")
    for user in data["users"]:
        user |= {"uplink_mbps": [], "downlink_mbps": []}
    assert instance_of({**data, "servers": []}).servers == ()


def test_edges_of_ranges():
    instance_of(edited(example("deployment-small"), "servers", 0, "storage_gb", 0))
    instance_of(edited(example("two-timescale-small"), "edge", "min_steps", 200))
    offloading = example("offloading-small")
    instance_of(edited(offloading, "models", 0, "quality", "ceiling", 0.05))  # flat
    instance_of(edited(offloading, "models", 2, "quality", "points", [[0, -1]]))
    instance_of(edited(offloading, "steps", {"min": 1, "max": 1, "stride": 5}))
    process = example("two-timescale-process")
    instance_of(edited(process, "process", "transition", 0, [0.6, 0.3, 0.1 + 5e-10]))
    instance_of(edited(process, "process", "input_mbit", [5, 5]))


# ---------------------------------------------------------------------------------------------- reading and writing


def test_read_json(tmp_path):
    path = tmp_path / "file.json"
    path.write_bytes(b'\xef\xbb\xbf {"a": [1, 2.5, null, true, "\xc3\xa9"], "b": NaN}\r\n')
    data = read_json(path)
    assert data["a"] == [1, 2.5, None, True, "é"] and math.isnan(data["b"])
    assert read_json(str(path)).keys() == data.keys()
    path.write_text('{"a": 1, "a": 2, "b": {"c": 1, "c": 1}}')
    with pytest.raises(InputError) as caught:
        read_json(path)
    assert caught.value.lines() == [f"{path}: a: stands more than once", f"{path}: b.c: stands more than once"]


def test_dump_json_is_json():
    for name in NAMES:
        data = example(name)
        assert json.loads(dump_json(data)) == data
    with pytest.raises(ValueError, match="JSON"):
        dump_json({"a": math.nan})


def test_write_replaces_and_leaves_nothing_behind(tmp_path):
    path = tmp_path / "file.json"
    write_text(path, "first")
    path.chmod(0o640)
    write_text(path, "second é")
    assert path.read_text(encoding="utf-8") == "second é"
    assert path.stat().st_mode & 0o777 == 0o640
    assert os.listdir(tmp_path) == ["file.json"]


@pytest.mark.parametrize("step", ["replace", "fdopen", "chmod"])
def test_failing_write_leaves_the_old_file(step, tmp_path, monkeypatch):
    path = tmp_path / "file.json"
    path.write_text("old")

    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, step, fail)
    with pytest.raises(InputError, match="cannot be written: No space left on device"):
        write_text(path, "new")
    monkeypatch.undo()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file.json"]


def test_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file.json"
    path.write_text("old")

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file.json"]


def test_write_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "none" / "file.json", tmp_path / "file" / "below.json", tmp_path / "a\0b"):
        with pytest.raises(InputError, match="cannot be written"):
            write_text(path, "text")
    assert os.listdir(tmp_path) == ["file"]


# -------------------------------------------------------------------------------------- random instances, and noise


texts = st.text(max_size=8)
names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=6)
at_least_0 = st.floats(0, 1e12) | st.integers(0, 10**6)
above_0 = st.floats(1e-12, 1e12) | st.integers(1, 10**6)
reals = st.floats(-1e9, 1e9)


def many(items, size):
    return st.lists(items, min_size=size, max_size=size)


def distinct(size):
    return st.lists(
        names.filter(lambda name: name not in ("local", "rejected")), min_size=size, max_size=size, unique=True
    )


def records(**fields):
    return st.fixed_dictionaries(fields)


curves = (
    st.builds(
        lambda steps, loss: {
            "kind": "piecewise_linear",
            "points": [list(point) for point in zip(sorted(steps), sorted(loss, reverse=True), strict=True)],
        },
        st.just([1.5, 20.0, 300.0]),
        many(reals, 3),
    )
    | st.builds(
        lambda floor, rise, scale: {"kind": "exponential", "floor": floor, "ceiling": floor + rise, "scale": scale},
        reals, at_least_0, above_0,
    )
    | records(kind=st.just("power"), floor=reals, coefficient=above_0, exponent=above_0)
)  # fmt: skip
latencies = records(base_s=at_least_0, per_step_s=at_least_0)


def heads(problem):
    return {
        "format": st.just("aigc-opt/instance"),
        "version": st.just(1),
        "problem": st.just(problem),
        "name": names,
        "description": st.text(st.characters(codec="utf-8"), max_size=8),
    }


def named(draw, size, **fields):
    return [{"name": name, **draw(records(**fields))} for name in draw(distinct(size))]


@st.composite
def deployments(draw):
    slots, servers, models = (draw(st.integers(1, 3)) for _ in range(3))
    data = draw(records(**heads("deployment")))
    sizes = {"storage_gb": above_0, "gpu_memory_gb": above_0}
    data["models"] = named(draw, models, **sizes, nominal_steps=at_least_0, latency=latencies)
    data["servers"] = named(
        draw, servers, storage_gb=at_least_0, gpu_memory_gb=at_least_0, cloud_gbps=above_0, io_gb_per_s=above_0,
        gpu_s=st.none() | at_least_0,
    )  # fmt: skip
    data["cloud_delay_s"] = draw(many(at_least_0, models))
    data["arrivals"] = draw(many(many(many(at_least_0, models), servers), slots))
    if draw(st.booleans()):
        peers = draw(many(many(st.none() | at_least_0, servers), servers))
        data["peer_delay_s"] = [[0 if i == j else d for j, d in enumerate(row)] for i, row in enumerate(peers)]
    if draw(st.booleans()):
        stored = draw(many(many(st.integers(0, 1), models), servers))
        data["initial"] = {"stored": stored, "loaded": draw(st.sampled_from([stored, [[0] * models] * servers]))}
    return data


@st.composite
def offloadings(draw):
    servers, models, users = draw(st.integers(0, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 3))
    data = draw(records(**heads("offloading")))
    workload = records(base_gcycles=above_0, per_step_gcycles=at_least_0)
    data["models"] = named(draw, models, workload=workload, quality=curves)
    known = [model["name"] for model in data["models"]]
    data["servers"] = named(
        draw, servers, ghz=above_0,
        hosts=st.none() | st.lists(st.sampled_from(known), min_size=1, max_size=models, unique=True),
    )  # fmt: skip
    data["users"] = named(
        draw, users, model=st.sampled_from(known), input_mbit=at_least_0, output_mbit=at_least_0, max_delay_s=above_0,
        battery_j=at_least_0, transmit_power_w=above_0, uplink_mbps=many(at_least_0, servers),
        downlink_mbps=many(at_least_0, servers), device=st.none() | records(max_ghz=above_0, kappa=at_least_0),
        rejection_penalty=st.none() | at_least_0,
    )  # fmt: skip
    low = draw(st.integers(1, 50))
    data["steps"] = {"min": low, "max": low + draw(st.integers(0, 50)), "stride": draw(st.integers(1, 20))}
    return data


@st.composite
def episodes(draw):
    frames, slots, users, models = (draw(st.integers(1, 3)) for _ in range(4))
    data = draw(records(**heads("two_timescale")))
    sizes = {"storage_gb": above_0, "gpu_memory_gb": above_0}
    data["models"] = named(draw, models, **sizes, latency=latencies, quality=curves)
    positive = ("uplink_mhz", "downlink_mhz", "power_w", "backhaul_mbps", "cloud_gbps", "io_gb_per_s")
    data["edge"] = draw(
        records(
            storage_gb=at_least_0,
            steps_per_slot=at_least_0,
            max_steps=st.integers(1, 9),
            **dict.fromkeys(positive, above_0),
        )
    )
    data["user_power_w"] = draw(many(above_0, users))
    data["cloud"] = draw(records(steps=st.integers(1, 200), latency=latencies))
    data["serve_all_hits"] = draw(st.booleans())
    data["initial_cache"] = draw(st.none() | many(st.integers(0, 1), models))

    def cube(items):
        return draw(many(many(many(items, users), slots), frames))

    model = cube(st.none() | st.integers(0, models - 1))
    requests = {"model": model}
    for key in REQUEST_ARRAYS[1:]:
        requests[key] = cube(above_0 if key.endswith("gain") else at_least_0)
    data["requests"] = requests
    return data


@pytest.mark.parametrize(
    "strategy", [deployments(), offloadings(), episodes()], ids=["deployment", "offloading", "episode"]
)
def test_random_instances_survive(strategy, tmp_path_factory):
    path = tmp_path_factory.mktemp("random") / "file.json"

    @FEW
    @given(strategy)
    def survive(data):
        instance = instance_of(data)
        assert instance_of(instance.to_dict()) == instance
        save(instance, path)
        again = load(path)
        assert again.sha256 == instance.sha256
        assert again.to_dict() == instance.to_dict()
        assert sha(backwards(data)) == instance.sha256

    survive()


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=6,
)


@pytest.mark.parametrize(
    "name", ["deployment-initial", "offloading-small", "two-timescale-small", "two-timescale-process"]
)
def test_anything_anywhere_is_read_or_refused(name):
    """Put any value in any place of a good file: it is read, and survives, or it is refused in words."""
    data = example(name)
    inner = {path[:depth] for path, _ in leaves(data) for depth in range(1, len(path) + 1)}
    places = sorted((path for path in inner if path[0] not in ("format", "problem")), key=repr)

    @given(st.sampled_from(places), values)
    def read_or_refuse(path, value):
        broken = json.loads(json.dumps(data))
        target = broken
        for key in path[:-1]:
            target = target[key]
        target[path[-1]] = value
        try:
            instance = instance_of(broken)
        except InputError as error:
            assert error.faults
            for line in error.lines():
                assert line.isprintable() and len(line) < 1000 and "Input should" not in line, line
            return
        assert instance_of(instance.to_dict()).sha256 == instance.sha256

    read_or_refuse()


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_are_read_or_refused(tmp_path_factory, raw):
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_bytes(raw)
    try:
        assert isinstance(read_json(path), dict)
    except InputError as error:
        assert len(error.lines()) >= 1
