"""The offloading problem at the command line: generate, solve, check, export."""

from __future__ import annotations

import json

import pytest

import aigc_opt
from aigc_opt.cli import main
from aigc_opt.errors import InputError
from aigc_opt.instance.generate_offloading import OFFLOADING_FAMILIES, generate_offloading


def test_from_generation_to_check(tmp_path, capsys):
    instance, result = str(tmp_path / "i.json"), str(tmp_path / "r.json")
    words = ["generate", "offloading", "--users", "12", "--servers", "2", "--family", "battery-tight", "--stride", "20"]
    assert main([*words, "--seed", "4", "-o", instance]) == 0
    assert main(["solve", instance, "--gap", "1e-6", "-o", result, "--quiet"]) == 0
    assert main(["check", instance, result]) == 0
    assert main(["solve", instance, "--quiet"]) == 0
    out = capsys.readouterr().out
    assert "price_of_ghz" in out and "with places and steps as they are" in out
    for ending in ("lp", "mps", "tex"):
        assert main(["export", instance, "-o", str(tmp_path / f"model.{ending}")]) == 0
    assert r"\mathrm{speed\_ghz}" in (tmp_path / "model.tex").read_text()
    assert "tangent" in (tmp_path / "model.lp").read_text()


@pytest.mark.parametrize("family", OFFLOADING_FAMILIES)
def test_same_seed_same_file(family):
    first, second = (generate_offloading(7, 3, family=family, seed=5) for _ in range(2))
    assert first.sha256 == second.sha256 != generate_offloading(7, 3, family=family, seed=6).sha256


def test_generated_files_are_the_same_everywhere():
    assert generate_offloading(3, 2, seed=1).sha256 == SHA_OF_SEED_1


SHA_OF_SEED_1 = "0e3a312e2545c8d58cc22f1657017cf9146ff46451168a1a4d890399717a1bec"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"users": 0}, "users must be"), ({"servers": -1}, "servers must be"), ({"stride": 0}, "stride must be"),
        ({"min_steps": 0}, "steps must be"), ({"max_steps": 5}, "steps must be"), ({"speed": 0.0}, "speed must be"),
        ({"seed": -1}, "seed must be"), ({"family": "x"}, "family must be"),
    ],
)  # fmt: skip
def test_impossible_arguments_are_refused(words, message):
    with pytest.raises(InputError, match=message):
        generate_offloading(**words)


def test_unknown_solver_and_method_list_what_there_is(examples):
    with pytest.raises(InputError, match="highs, scip"):
        aigc_opt.solve(examples / "offloading-small.json", solver="gurobi")
    with pytest.raises(InputError, match="decomposition, outer-approximation, exact, alternating"):
        aigc_opt.solve(examples / "offloading-small.json", method="magic")


def test_melbourne_instances_are_valid_and_small(examples):
    folder = examples.parent / "offloading"
    sizes = {"small": (59, 10), "medium": (272, 40), "large": (816, 125)}
    for name, (users, servers) in sizes.items():
        path = folder / f"melbourne-cbd-{name}.json"
        instance = aigc_opt.load(path)
        assert (len(instance.users), len(instance.servers)) == (users, servers)
        assert path.stat().st_size < 3_000_000
        assert "assumed" in json.loads(path.read_text())["source"].lower()
