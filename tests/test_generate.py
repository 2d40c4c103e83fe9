"""Generated instances: valid, reproducible, and as different as their families say."""

from __future__ import annotations

import numpy as np
import pytest

import aigc_opt
from aigc_opt.cli import main
from aigc_opt.instance.generate import DEPLOYMENT_FAMILIES, GENERATORS, generate_deployment
from aigc_opt.problems.deployment.costs import Costs


def test_same_seed_same_file_everywhere():
    """The hash is pinned: it changes only if the generator does, and then every published seed changes its meaning."""
    assert generate_deployment(3, 5, 4, seed=1) == generate_deployment(3, 5, 4, seed=1)
    assert generate_deployment(3, 5, 4, seed=1) != generate_deployment(3, 5, 4, seed=2)
    assert (
        generate_deployment(3, 5, 4, seed=1).sha256
        == "61be922ec506dd0b1179ad4df33a87f0aafd8e5e2a4ad524c0ba877b762b5576"
    )


@pytest.mark.parametrize("family", DEPLOYMENT_FAMILIES)
@pytest.mark.parametrize("shape", [(1, 1, 1), (4, 10, 12), (3, 20, 2)])
def test_every_family_and_shape(family, shape):
    instance = generate_deployment(*shape, family=family, seed=3)
    assert instance.shape == (shape[2], shape[0], shape[1])
    assert instance.arrivals.sum() > 0 and (instance.arrivals == np.round(instance.arrivals)).all()
    costs = Costs.of(instance)
    assert (costs.storage_gb >= costs.size_gb.min()).all() and (costs.gpu_memory_gb >= costs.memory_gb.min()).all()
    assert "assumed" in instance.description


def test_families_differ_in_what_they_are_named_for():
    made = {family: generate_deployment(4, 10, 24, family=family, seed=0) for family in DEPLOYMENT_FAMILIES}
    room = {name: Costs.of(i).gpu_memory_gb.sum() / Costs.of(i).memory_gb.sum() for name, i in made.items()}
    assert room["memory-tight"] < 0.7 * room["balanced"]

    def turnover(instance):
        first, last = instance.arrivals[0], instance.arrivals[-1]
        return np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(first, last, strict=True)])

    assert turnover(made["drifting"]) < turnover(made["balanced"])
    assert all(server.gpu_s is None for server in made["metro"].servers) and made["metro"].shares.all()


def test_load_scales_the_limits():
    light, heavy = (generate_deployment(2, 5, 4, load=load, seed=0) for load in (0.5, 1.0))
    for one, other in zip(light.servers, heavy.servers, strict=True):
        assert one.gpu_s == pytest.approx(2 * other.gpu_s, rel=1e-3)


def test_arguments_that_make_no_sense_are_all_named():
    with pytest.raises(aigc_opt.InputError) as error:
        generate_deployment(0, 5, -1, family="none", load=float("nan"), seed=-1)
    assert len(error.value.faults) == 5


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("deployment --load 1e300", "load must be from 0.01 to 100, got 1e+300"),
        ("deployment --load nan", "load must be from 0.01 to 100, got nan"),
        ("offloading --speed 1e-300", "speed must be from 0.01 to 100, got 1e-300"),
        *((f"{problem} --name", "name: must not be empty") for problem in GENERATORS),
    ],
)
def test_arguments_beyond_what_makes_sense_are_refused_in_one_line(tmp_path, capsys, words, message):
    words = [*words.split(), ""] if words.endswith("--name") else words.split()
    assert main(["generate", *words, "-o", str(tmp_path / "x.json")]) == 2
    assert capsys.readouterr().err == f"aigc-opt: generate: {message}\n"
    assert not (tmp_path / "x.json").exists()
