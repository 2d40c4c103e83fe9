"""Paths of numbers and values of a sweep: what is read, and how what is wrong is told."""

from __future__ import annotations

import json

import numpy as np
import pytest

import aigc_opt
from aigc_opt.errors import InputError
from aigc_opt.tradeoffs.paths import Varied, grid_of, parse_path, parse_values, parse_varied


@pytest.fixture(scope="module")
def small(examples):
    return aigc_opt.load(examples / "deployment-small.json")


def test_path_is_split():
    assert parse_path("servers[2].storage_gb") == ("servers", 2, "storage_gb")
    assert parse_path("arrivals[0][1][2]") == ("arrivals", 0, 1, 2)


@pytest.mark.parametrize(
    "path", ["", ".", "a.", ".a", "a..b", "a[", "a[-1]", "a[1", "a[x]", "[0]", "a b", "a.[0]", "a[0]b", 'a["b"]']
)
def test_path_written_in_another_way_is_refused(path):
    with pytest.raises(InputError, match="must be a path such as"):
        parse_path(path)


@pytest.mark.parametrize(
    "text, values",
    [
        ("1,2,3", (1, 2, 3)),
        ("200:1200:100", tuple(range(200, 1201, 100))),
        ("0:1:0.1", (0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1)),
        ("0:1:0.3", (0, 0.3, 0.6, 0.9)),
        ("3:1:-1", (3, 2, 1)),
        ("5:5:1", (5,)),
        ("1e-3, 2.5E2", (0.001, 250)),
    ],
)
def test_values(text, values):
    assert parse_values(text) == values  # exactly: 0:1:0.1 holds 0.3, not 0.30000000000000004


@pytest.mark.parametrize(
    "text", ["", "a", "1,,2", "1:2", "1:2:0", "1:2:-1", "1:2:3:4", "nan", "1,inf", "1e999", "0:1e9:1"]
)
def test_values_that_are_none(text):
    with pytest.raises(InputError, match="vary"):
        parse_values(text)


def test_a_path_stands_once():
    with pytest.raises(InputError, match="more than once"):
        parse_varied(["a=1", "a=2"])
    with pytest.raises(InputError, match="PATH=VALUES"):
        parse_varied(["a"])


@pytest.mark.parametrize(
    "path, message",
    [
        ("servers[9].storage_gb", r"servers has entries \[0\] to \[1\]"),
        ("servers[0].storage", "there is no such number"),
        ("servers.storage_gb", "there is no such number"),
        ("slot_s[0]", "has no entries"),
        ("servers", "must lead to one number"),
        ("name", "must lead to one number"),
    ],
)
def test_paths_that_lead_nowhere(small, path, message):
    with pytest.raises(InputError, match=message):
        grid_of(small, {path: [1.0]})


@pytest.mark.parametrize("values", [[], [1, 1], [float("nan")], [True], ["1"], "12"])
def test_values_of_a_grid(small, values):
    with pytest.raises(InputError, match="slot_s"):
        grid_of(small, {"slot_s": values})


def test_an_instance_at_a_point_is_the_file_with_that_number(small, examples):
    data = json.loads((examples / "deployment-small.json").read_text())
    data["servers"][1]["storage_gb"] = 12.5
    data["weights"]["delay"] = 3.0
    varied = Varied(small, grid_of(small, {"servers[1].storage_gb": [12.5], "weights.delay": [3]}))
    assert varied.at((12.5, 3.0)) == type(small).from_dict(data)
    assert varied.at((12.5, 3.0)) != small


def test_requests_of_an_episode_can_be_varied(examples):
    episode = aigc_opt.load(examples / "two-timescale-small.json")
    frame, slot, user = np.argwhere(episode.requests.model >= 0)[0]
    path = f"requests.input_mbit[{frame}][{slot}][{user}]"
    changed = Varied(episode, grid_of(episode, {path: [7.25]})).at((7.25,))
    assert changed.requests.input_mbit[frame, slot, user] == 7.25
    kept = Varied(episode, grid_of(episode, {"edge.storage_gb": [episode.edge.storage_gb]}))
    assert kept.at((episode.edge.storage_gb,)) == episode


def test_a_point_that_is_no_instance_is_named(small):
    with pytest.raises(InputError, match=r"servers\[0\].storage_gb=-1: servers\[0\].storage_gb: must be >= 0"):
        Varied(small, {"servers[0].storage_gb": (-1.0,)}).at((-1.0,))
