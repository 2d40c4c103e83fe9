"""Evaluations from end to end: order of bounds, clairvoyants, resuming, refusals, files of policies, the command."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import aigc_opt
from aigc_opt.cli import main
from aigc_opt.evaluation import evaluate, nonanticipative
from aigc_opt.evaluation import runner as running
from aigc_opt.evaluation.report import make_report
from aigc_opt.instance.offloading import OffloadingInstance
from aigc_opt.plot.policies import policy_gaps
from aigc_opt.policies import two_timescale as baselines
from tests.conftest import ROOT
from tests.evaluation import policies

BASELINES = ["random-average", "popular-genetic", "popular", "lru", "lfu", "myopic"]
REPORT = ["format", "version", "instance", "episodes", "seed", "confidence", "bounds", "policies"]
POLICY = ["name", "cost", "terms", "gap", "attribution", "feasible_episodes", "seconds_per_decision"]


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """Small samples: the bounds get wider, not wrong."""
    monkeypatch.setattr(nonanticipative, "REPLICATIONS", 5)
    monkeypatch.setattr(nonanticipative, "SLOTS", 100)
    monkeypatch.setattr(nonanticipative, "TRAINING_SLOTS", 200)


@pytest.fixture
def process(examples, tmp_path):
    return small_process(examples, tmp_path)


def small_process(examples, folder, frames=3, slots=3, switching=0.0, models=6, users=6):
    data = json.loads((examples / "two-timescale-process.json").read_text())
    data["process"] |= {"frames": frames, "slots": slots}
    data["weights"]["switching"] = switching
    data["models"], data["user_power_w"] = data["models"][:models], data["user_power_w"][:users]
    data["edge"] |= {"steps_per_slot": 600, "storage_gb": 12}
    path = folder / "process.json"
    path.write_text(json.dumps(data))
    return path


@pytest.mark.parametrize("switching", [0.0, 0.05])
def test_order_of_bounds_and_the_clairvoyant_is_caught(examples, tmp_path, monkeypatch, switching):
    path = small_process(examples, tmp_path, switching=switching)
    monkeypatch.setattr(baselines, "GENERATIONS", 5)
    report = evaluate(path, [*BASELINES, "offline"], episodes=16, seed=3)
    data = report.to_dict()
    reachable = data["bounds"]["nonanticipative"]
    hindsight, lower, upper = data["bounds"]["hindsight"], reachable["lower"], reachable["upper"]
    assert hindsight["mean"] < lower["mean"] <= upper["mean"]
    costs = {p["name"]: p["cost"]["mean"] for p in data["policies"]}
    assert all(costs[name] > upper["mean"] for name in BASELINES)
    assert costs["offline"] < lower["mean"]
    assert "BELOW: offline" in reachable["note"] and "clairvoyant by design" in reachable["note"]
    assert not any(f"BELOW: {name}" in reachable["note"] for name in BASELINES)
    assert list(data) == REPORT
    for policy in data["policies"]:
        assert list(policy)[: len(POLICY)] == POLICY
        assert policy["feasible_episodes"] == 16 and policy["violations"] == []
        parts = policy["attribution"]
        gap = policy["cost"]["mean"] - hindsight["mean"]
        assert parts["caching"]["mean"] + parts["allocation"]["mean"] == pytest.approx(gap, abs=1e-9)
        assert sum(policy["terms"].values()) == pytest.approx(policy["cost"]["mean"])
        assert policy["cost"]["ci"][0] < policy["cost"]["mean"] < policy["cost"]["ci"][1]
    assert "offline" in report.table() and "[hindsight bound]" in report.table()
    report.save_picture(tmp_path / "picture.svg")
    assert (tmp_path / "picture.svg").read_text().startswith("<svg")


def test_a_clairvoyant_that_somebody_brings_is_caught(process, monkeypatch):
    """It is shown nothing of the future, but guesses the seeds."""
    monkeypatch.setattr(policies.Clairvoyant, "path", process)
    monkeypatch.setattr(policies.Clairvoyant, "started", -2)
    data = evaluate(process, {"seer": policies.Clairvoyant, "nothing": policies.nothing}, episodes=25).to_dict()
    assert "BELOW: seer" in data["bounds"]["nonanticipative"]["note"]
    assert "BELOW: nothing" not in data["bounds"]["nonanticipative"]["note"]


@pytest.mark.parametrize("sampled", [True, False])
def test_below_tells_on_how_many_episodes_a_policy_was_accepted(sampled):
    def record(number):
        def played(cost):
            return {"cost": cost, "terms": None if cost is None else {"delay": cost}, "same_choices": None,
                    "violations": [], "seconds": 0.0, "decisions": 0}  # fmt: skip

        costs = {"picky": None if number % 4 else 1.0, "always": 1.0, "fair": 10.0 + number % 3}
        return {"episode": number, "hindsight": 1.0, "reachable": 10.0 + number % 2, "relaxed": 9.0 + number % 2,
                "policies": {name: played(cost) for name, cost in costs.items()}}  # fmt: skip

    records = [record(number) for number in range(20)]
    gaps = np.array([0.1, 0.2, 0.15]) if sampled else None
    report = make_report({}, records, ["picky", "always", "fair"], 0, 0.95, gaps, "test")
    bounds = report.to_dict()["bounds"]["nonanticipative"]
    picky, always = (
        bounds["note"].partition(f"BELOW: {name} ")[2].partition("BELOW")[0] for name in ("picky", "always")
    )
    assert "below lower on the 5 of 20 episodes in which it was accepted" in picky
    assert "The checker refused 15:" in picky
    assert always and "accepted" not in always and "refused" not in always
    assert "BELOW: fair" not in bounds["note"]


def test_costs_are_the_checkers(process):
    """Mean, gap and terms of a report from the solutions of `solve` and the words of `check`, one by one."""
    data = evaluate(process, ["offline", "popular"], episodes=3, seed=11).to_dict()
    results = [aigc_opt.solve(aigc_opt.sample(aigc_opt.load(process), 11 + e)) for e in range(3)]
    offline = data["policies"][0]
    assert offline["cost"]["mean"] == pytest.approx(np.mean([r.objective for r in results]), rel=1e-12)
    assert data["bounds"]["hindsight"]["mean"] == pytest.approx(np.mean([r.lower_bound for r in results]), rel=1e-12)
    gaps = [(r.objective - r.lower_bound) / abs(r.lower_bound) for r in results]
    assert offline["gap"]["mean"] == pytest.approx(np.mean(gaps), abs=1e-12)


def test_processes_in_parallel_change_nothing(examples, tmp_path):
    process = small_process(examples, tmp_path, models=3, users=2)
    one = evaluate(process, ["popular-genetic", "lru"], episodes=4).to_dict()
    # Workers do not see what this test's fixture changed, so the bounds by sampling may differ; the rest may not.
    two = evaluate(process, ["popular-genetic", "lru"], episodes=4, workers=2).to_dict()
    assert [p["cost"] for p in one["policies"]] == [p["cost"] for p in two["policies"]]
    assert one["bounds"]["hindsight"] == two["bounds"]["hindsight"]


def test_resumes_where_it_was_killed(process, tmp_path, monkeypatch):
    journal = tmp_path / "report.json.episodes"
    whole = evaluate(process, ["lru", "random-average"], episodes=5).to_dict()
    play, played = running.Episodes.play, []

    def killed(self, number):
        if len(played) == 3:
            raise SystemExit("killed")
        played.append(number)
        return play(self, number)

    monkeypatch.setattr(running.Episodes, "play", killed)
    with pytest.raises(SystemExit):
        evaluate(process, ["lru", "random-average"], episodes=5, journal=journal)
    text = journal.read_text()
    assert text.count('{"episode"') == 3
    sampled = text.count('{"sample"')
    journal.write_text(text + text.splitlines()[-1][:40])  # the line that was being written
    again = []
    monkeypatch.setattr(running.Episodes, "play", lambda self, e: again.append(e) or play(self, e))
    monkeypatch.setattr(nonanticipative, "_table", lambda *words: pytest.fail("sampled again"))
    assert sampled == 6 * len(aigc_opt.load(process).process.transition)
    data = evaluate(process, ["lru", "random-average"], episodes=5, journal=journal).to_dict()
    assert again == [3, 4] and not journal.exists()
    for ours, theirs in zip(data["policies"], whole["policies"], strict=True):
        assert ours["cost"] == theirs["cost"] and ours["gap"] == theirs["gap"]
    assert data["bounds"] == whole["bounds"]


@pytest.mark.parametrize("most", [2048, 2])
def test_interrupted_in_sampling_it_goes_on_where_it_was(process, tmp_path, monkeypatch, capsys, most):
    """One line and status 3, because there is nothing to report; samples are kept, and the numbers are the same."""
    monkeypatch.setattr(nonanticipative, "MOST_CACHES", most)
    whole = evaluate(process, ["lru"], episodes=2).to_dict()
    out, journal = tmp_path / "report.json", tmp_path / "report.json.episodes"
    words = ["evaluate", str(process), "--policy", "lru", "--episodes", "2", "--workers", "1", "-o", str(out)]
    exact, calls = nonanticipative.Frames.exact, []
    samples = 6 * len(aigc_opt.load(process).process.transition)

    def interrupted(self, *arguments):
        calls.append(self)
        if len(calls) == 5:
            signal.raise_signal(signal.SIGINT)
        return exact(self, *arguments)

    monkeypatch.setattr(nonanticipative.Frames, "exact", interrupted)
    assert main([*words, "--quiet"]) == 3
    line = "aigc-opt: interrupted before an episode ended, nothing to report; the same command goes on\n"
    assert capsys.readouterr().err == line and not out.exists()
    kept = journal.read_text().count('{"sample"')
    assert 0 < kept < samples
    monkeypatch.setattr(nonanticipative.Frames, "exact", exact)
    assert main(words) == 0
    said = capsys.readouterr().err
    assert f"sampling what a policy that knows only the present can reach, {samples} of {samples}" in said
    data = json.loads(out.read_text())
    assert data["bounds"] == whole["bounds"] and not journal.exists()
    assert data["policies"][0]["cost"] == whole["policies"][0]["cost"]


def killed_after_two_episodes(process, policy, journal):
    """Leave the journal that an evaluation of three episodes leaves when it is killed in the third one."""
    play = running.Episodes.play

    def killed(self, number):
        if number == 2:
            raise SystemExit("killed")
        return play(self, number)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(running.Episodes, "play", killed)
        evaluate(process, [policy], episodes=3, journal=journal)


def test_interrupted_in_sampling_episodes_of_before_are_reported(process, tmp_path, monkeypatch, capsys):
    """Without the bound that sampling would have given."""
    journal = tmp_path / "journal"
    killed_after_two_episodes(process, "lru", journal)
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join(line for line in lines if not line.startswith('{"sample"')))

    def interrupted(*words):
        raise KeyboardInterrupt

    monkeypatch.setattr(nonanticipative, "_table", interrupted)
    said = []
    data = evaluate(process, ["lru"], episodes=3, journal=journal, say=said.append).to_dict()
    assert data["episodes"] == 2 and data["bounds"]["nonanticipative"] is None and data["bounds"]["hindsight"]
    assert said[-1] == "interrupted after 2 of 3 episodes" and journal.exists()


def test_gaps_are_of_the_episodes_that_have_a_bound(tmp_path):
    """Dear episodes without one count in the cost, but not in the gap; the report says of how many each is."""

    def record(number, hindsight, cost):
        played = {"cost": cost, "terms": {"delay": cost}, "same_choices": cost - 1.0,
                  "violations": [], "seconds": 0.0, "decisions": 0}  # fmt: skip
        return {"episode": number, "hindsight": hindsight, "reachable": 11.0, "relaxed": None,
                "policies": {"p": played}}  # fmt: skip

    records = [record(0, 10.0, 12.0), record(1, None, 1000.0), record(2, 20.0, 22.0)]
    report = make_report({"name": "n", "problem": "two_timescale"}, records, ["p"], 0, 0.95, np.array([0.1, 0.2]), "")
    data = report.to_dict()
    (policy,) = data["policies"]
    assert data["bounds"]["hindsight"]["mean"] == 15.0 and data["bounds"]["hindsight"]["episodes"] == 2
    assert policy["gap"]["mean"] == pytest.approx(0.15) and policy["gap"]["episodes"] == 2
    assert policy["attribution"]["caching"] == {"mean": 1.0, "ci": [1.0, 1.0], "episodes": 2}
    assert policy["cost"]["mean"] == pytest.approx(1034 / 3) and policy["cost"]["episodes"] == 3
    assert "Hindsight has a bound in 2 of 3 episodes" in report.table()
    report.save_picture(tmp_path / "picture.svg")
    assert "hindsight (2 of 3)" in (tmp_path / "picture.svg").read_text()
    assert "bound without knowing the future" not in [line.get_label() for line in policy_gaps(data).lines]
    whole = make_report({"name": "n", "problem": "two_timescale"}, records[::2], ["p"], 0, 0.95, None, "")
    assert "Hindsight has a bound" not in whole.table()


def test_a_journal_of_another_evaluation_is_left_alone(process, tmp_path):
    journal = tmp_path / "journal"
    text = json.dumps({"key": "of another"}) + '\n{"episode": 0}\n'
    journal.write_text(text)
    with pytest.raises(aigc_opt.InputError, match="journal: holds episodes of another evaluation"):
        evaluate(process, ["lru"], episodes=1, journal=journal)
    assert journal.read_text() == text


def test_a_journal_of_a_policy_that_was_changed_is_left_alone(process, tmp_path, monkeypatch):
    """Episodes of two policies under one name must not be averaged."""
    module = tmp_path / "brought_and_changed.py"
    module.write_text("import numpy as np\n\ndef policy(view):\n    return np.ones(view.station.models)\n")
    monkeypatch.syspath_prepend(tmp_path)
    killed_after_two_episodes(process, "brought_and_changed:policy", tmp_path / "journal")
    module.write_text(module.read_text().replace("np.ones", "-np.ones"))
    with pytest.raises(aigc_opt.InputError, match="holds episodes of another evaluation"):
        evaluate(process, ["brought_and_changed:policy"], episodes=3, journal=tmp_path / "journal")


def test_interrupted_it_reports_what_it_has(process, monkeypatch):
    play = running.Episodes.play

    def interrupted(self, number):
        if number == 2:
            raise KeyboardInterrupt
        return play(self, number)

    monkeypatch.setattr(running.Episodes, "play", interrupted)
    assert evaluate(process, ["lru"], episodes=5).to_dict()["episodes"] == 2


def test_refused_episodes_are_never_averaged_in(process):
    """Caching everything does not fit: amended it does, strictly it is refused in every episode."""
    amended = evaluate(process, {"all": policies.everything}, episodes=2).to_dict()["policies"][0]
    assert amended["feasible_episodes"] == 2 and amended["violations"] == []
    strict = evaluate(
        process, {"all": policies.everything, "none": policies.nothing}, episodes=2, strict=True
    ).to_dict()
    refused, fine = strict["policies"]
    assert refused["feasible_episodes"] == 0 and refused["cost"] is None and refused["gap"] is None
    assert {v["constraint"] for v in refused["violations"]} == {"storage"}
    assert {v["episode"] for v in refused["violations"]} == {0, 1}
    assert fine["feasible_episodes"] == 2


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("policy", [policies.undefined, policies.Undefined, policies.undefined_placement])
def test_nan_is_no_decision(process, examples, policy, strict):
    """What a policy that has lost its weights answers is not amended into something that looks fine."""
    instance = examples / "deployment-small.json" if policy is policies.undefined_placement else process
    with pytest.raises(aigc_opt.InputError, match=r"policy lost: .*NaN"):
        evaluate(instance, {"lost": policy}, strict=strict)


def test_allocation_alone(process):
    data = evaluate(process, {"equal": policies.Equal, "popular": "popular"}, episodes=2).to_dict()
    equal, popular = data["policies"]
    assert equal["attribution"]["caching"] == popular["attribution"]["caching"]
    assert equal["attribution"]["allocation"]["mean"] > 0 == popular["attribution"]["allocation"]["mean"]


def test_decisions_made_elsewhere(process, tmp_path, examples):
    folder = tmp_path / "decisions"
    folder.mkdir()
    law = aigc_opt.load(process)
    for seed in (5, 6):
        aigc_opt.solve(aigc_opt.sample(law, seed)).save(folder / f"{seed}.json")
    data = evaluate(process, [str(folder), "offline"], episodes=2, seed=5).to_dict()
    assert data["policies"][0]["cost"] == data["policies"][1]["cost"]
    with pytest.raises(aigc_opt.InputError, match=r"no decisions for seed 7"):
        evaluate(process, [str(folder)], episodes=3, seed=5)
    instance = examples / "two-timescale-small.json"
    aigc_opt.solve(instance).solution.save(tmp_path / "bare.json", npz=True)
    for bare in (tmp_path / "bare.json", next(tmp_path.glob("bare-*.npz"))):
        found = evaluate(instance, [str(bare)]).to_dict()
        assert found["episodes"] == 1 and found["policies"][0]["cost"]["ci"] is None
        assert found["bounds"]["nonanticipative"] is None
        assert found["policies"][0]["gap"]["mean"] < 1e-4
        assert main(["check", str(instance), str(bare)]) == 0


def test_an_npz_alone_is_a_file_of_decisions(process, tmp_path, capsys, examples):
    """In a folder too; one that is none is refused in a line."""
    folder = tmp_path / "decisions"
    folder.mkdir()
    solution = aigc_opt.solve(aigc_opt.sample(aigc_opt.load(process), 5)).solution
    kinds = {"cached": np.int64, "at_edge": np.int64}
    np.savez(
        folder / "5.npz",
        **{name: np.asarray(value, kinds.get(name, np.float64)) for name, value in solution.to_dict().items()},
    )
    data = evaluate(process, [str(folder), "offline"], episodes=1, seed=5).to_dict()
    assert data["policies"][0]["cost"] == data["policies"][1]["cost"]
    small = examples / "offloading-small.json"
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    for instance, name, message in (
        (process, "5.npz", "has no decisions for seed 0 and 98 more: there is no file 0.json or 0.npz in it"),
        (small, "decisions/5.npz", "5.npz: is an npz, but decisions of offloading are a JSON file"),
        (small, "missing.npz", "missing.npz: there is no such file or folder"),
        (process, "other.npz", "other.npz: npz: 'other.npz' must have exactly the arrays cached, at_edge"),
    ):
        policy = folder if name == "5.npz" else tmp_path / name
        assert main(["evaluate", str(instance), "--policy", str(policy), "--workers", "1", "--quiet"]) == 2
        err = capsys.readouterr().err
        assert message in err and err.count("\n") == 1


def test_all_decisions_are_looked_at_first(process, tmp_path, monkeypatch, capsys):
    """A file that is missing or malformed is told before anything is sampled or played."""
    folder = tmp_path / "decisions"
    folder.mkdir()
    law = aigc_opt.load(process)
    aigc_opt.solve(aigc_opt.sample(law, 0), method="popular", bound=False).save(folder / "0.json")
    monkeypatch.setattr(running, "nonanticipative", lambda *arguments, **options: pytest.fail("sampled"))
    monkeypatch.setattr(running.Episodes, "play", lambda self, number: pytest.fail("played"))
    with pytest.raises(aigc_opt.InputError, match=r"has no decisions for seed 1 and 2 more: there is no file 1\.json"):
        evaluate(process, [str(folder)], episodes=4)
    (folder / "1.json").write_text((folder / "0.json").read_text())
    with pytest.raises(aigc_opt.InputError, match=r"1\.json: .*another instance|1\.json: instance"):
        evaluate(process, [str(folder)], episodes=2)
    # An instance is none: one line, not one for each of its keys.
    for command in (["evaluate", str(process), "--episodes", "1", "--policy"], ["check", str(folder / "episode.json")]):
        aigc_opt.save(aigc_opt.sample(law, 0), folder / "episode.json")
        assert main([*command, str(folder / "episode.json")]) == 2
        err = capsys.readouterr().err
        assert err.endswith("is an instance, expected a solution (decisions) or a result\n") and err.count("\n") == 1


def test_the_journal_knows_the_npz_that_a_json_names(examples, tmp_path):
    instance = examples / "two-timescale-small.json"
    (tmp_path / "result.json").write_text('{"solution": {"npz": "arrays.npz"}}')
    (tmp_path / "bare.json").write_text('{"npz": "arrays.npz"}')
    keys = []
    for content in (b"one", b"two"):
        (tmp_path / "arrays.npz").write_bytes(content)
        for name in ("result.json", "bare.json", "arrays.npz"):
            keys.append(running._key(running.Setting(aigc_opt.load(instance), {"p": str(tmp_path / name)})))
    assert len(set(keys)) == 6


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("deployment-small", ["lru", "genetic", "offline", "tests.evaluation.policies:most_asked"]),
        ("offloading-small", ["greedy-deadline", "random", "offline", "tests.evaluation.policies:at_home"]),
        ("two-timescale-switching", [*BASELINES, "offline", "tests.evaluation.policies:nothing"]),
    ],
)
def test_instances_are_one_episode(examples, optima, name, names):
    data = evaluate(examples / f"{name}.json", names).to_dict()
    assert data["episodes"] == 1
    assert data["bounds"]["hindsight"]["mean"] <= optima[name] * (1 + 1e-9)
    for policy in data["policies"]:
        assert policy["feasible_episodes"] == 1, policy
        assert policy["cost"]["mean"] >= data["bounds"]["hindsight"]["mean"] * (1 - 1e-9)
    assert data["policies"][names.index("offline")]["cost"]["mean"] == pytest.approx(optima[name], rel=2e-4)


def test_strict_in_deployment(examples):
    path = examples / "deployment-small.json"
    spec = "tests.evaluation.policies:too_much"
    assert evaluate(path, [spec]).to_dict()["policies"][0]["feasible_episodes"] == 1
    refused = evaluate(path, [spec], strict=True).to_dict()["policies"][0]
    assert refused["feasible_episodes"] == 0 and refused["violations"]


@pytest.mark.parametrize(
    ("place", "steps", "constraints"),
    [
        ("edge-1", 4, {"server_speed", "in_reach"}),
        ("edge-2", 0, {"hosted", "in_reach"}),
        ("local", 0, {"has_device"}),
        ("local", 4, {"device_speed", "battery"}),
        ("rejected", 0, {"must_be_served"}),
    ],
)
def test_strict_in_offloading_names_the_constraint(examples, place, steps, constraints):
    """What is told of decisions that cannot be is a constraint that they break, whatever shares they get."""
    data = json.loads((examples / "offloading-small.json").read_text())
    if place == "rejected":
        data["users"][1]["rejection_penalty"] = None
    instance = OffloadingInstance.from_dict(data)
    names = ["local", "rejected", *(server.name for server in instance.servers)]
    refused = evaluate(instance, {"p": lambda view: np.array([names.index(place), steps])}, strict=True)
    (policy,) = refused.to_dict()["policies"]
    assert policy["feasible_episodes"] == 0 and {v["constraint"] for v in policy["violations"]} == constraints
    assert policy["violations"] and "no_decisions" not in refused.table()
    fine = evaluate(instance, {"p": lambda view: np.array([1 if view.reject_cost < np.inf else 0, 0])}, strict=True)
    assert fine.to_dict()["policies"][0]["feasible_episodes"] == 1


def test_information_relaxation_stands_in_where_caches_are_too_many(examples, tmp_path, monkeypatch):
    monkeypatch.setattr(nonanticipative, "MOST_CACHES", 2)
    path = small_process(examples, tmp_path, frames=3, slots=3, switching=0.05)
    data = evaluate(path, ["lru", "offline"], episodes=12).to_dict()
    reachable = data["bounds"]["nonanticipative"]
    assert "relaxation" in reachable["note"] and "BELOW: offline" in reachable["note"]
    assert data["bounds"]["hindsight"]["mean"] < reachable["lower"]["mean"] < reachable["upper"]["mean"]


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ("nosuch", "module:name"),
        ("no.such.module:thing", "there is no module"),
        ("tests.evaluation.policies:nothing_there", "has no 'nothing_there'"),
        ("tests.evaluation.policies:BASE", "has no"),
        ("tests.evaluation.policies:np.pi", "must be a function"),
        ("missing.zip", "there is no such file"),
        ("tests.evaluation.policies:wrong_shape", "shape"),
        ("tests.evaluation.policies:fails", "ZeroDivisionError: by accident"),
        ("tests.evaluation.policies:FailsInASlot", "failed in the episode of seed 0: ZeroDivisionError: by accident"),
        ("tests.evaluation.policies:Undefined", "got NaN"),
        ("tests.evaluation.policies:leaves", "policies:leaves: failed in the episode of seed 0: SystemExit: 3"),
        ("tests.evaluation.policies:Stationless", "policies:Stationless: a class is called with the Station, and"),
        (
            "tests.evaluation.policies:Unmade",
            "policies:Unmade: a class is called with the Station, and this one failed",
        ),
    ],
)
def test_errors_of_policies(process, capsys, monkeypatch, policy, message):
    """In one line, and before anything is sampled."""
    monkeypatch.setattr(running, "nonanticipative", lambda *arguments, **options: pytest.fail("sampled"))
    words = ["evaluate", str(process), "--policy", policy, "--episodes", "1", "--workers", "1", "--quiet"]
    assert main(words) == 2
    err = capsys.readouterr().err
    assert message in err and "Traceback" not in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("policy", "message"),
    [("Unmade", "Unmade: a class is called without arguments, and this one failed: Zero"), ("leaves", "SystemExit: 3")],
)
def test_errors_of_policies_of_deployment(examples, capsys, policy, message):
    words = ["evaluate", str(examples / "deployment-small.json"), "--policy", f"tests.evaluation.policies:{policy}"]
    assert main([*words, "--workers", "1", "--quiet"]) == 2
    err = capsys.readouterr().err
    assert message in err and "Traceback" not in err and err.count("\n") == 1


@pytest.mark.parametrize("found", [policies.Chance, policies.Chance()])
def test_the_trial_of_policies_changes_no_number(process, monkeypatch, found):
    """Neither a policy that draws from its own generator nor one that draws from the common one."""
    np.random.seed(1)  # noqa: NPY002
    tried = evaluate(process, {"chance": found}, episodes=2).to_dict()["policies"][0]
    monkeypatch.setattr(running.Episodes, "try_policies", lambda self: None)
    np.random.seed(1)  # noqa: NPY002
    if not isinstance(found, type):
        found.__init__()
    assert evaluate(process, {"chance": found}, episodes=2).to_dict()["policies"][0]["cost"] == tried["cost"]


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ("EMPTY", "holds no agent (there is no agent.json in it) and no decisions (0.json and so on)"),
        ("EMPTY:cache", "must be the folder of an agent, but there is no agent.json in it"),
        ("EMPTY/missing:cache", "must be the folder of an agent, but there is no such folder"),
        ("EMPTY/missing", "there is no such file or folder"),
        ("missing-agent:cache", "there is no module 'missing-agent', and no folder 'missing-agent' with an agent"),
        ("nosuch", "must be a known name, module:name, a model file, an agent's folder or decisions, got 'nosuch'"),
    ],
)
def test_errors_of_agents_speak_of_agents(process, capsys, tmp_path, monkeypatch, policy, message):
    monkeypatch.setattr(running, "nonanticipative", lambda *arguments, **options: pytest.fail("sampled"))
    (tmp_path / "empty").mkdir()
    policy = policy.replace("EMPTY", str(tmp_path / "empty"))
    words = ["evaluate", str(process), "--policy", policy, "--episodes", "1", "--workers", "1", "--quiet"]
    assert main(words) == 2
    err = capsys.readouterr().err
    assert err.endswith(f": {message}\n") and err.count("\n") == 1


def test_errors_of_arguments(process, examples):
    for options, message in (
        ({"policies": []}, "at least one policy"), ({"episodes": 0}, "episodes must be"), ({"seed": -1}, "seed must"),
        ({"confidence": 1.0}, "confidence"), ({"policies": ["lru", "lru"]}, "once"),
    ):  # fmt: skip
        with pytest.raises(aigc_opt.InputError, match=message):
            evaluate(process, **({"policies": ["lru"]} | options))
    with pytest.raises(aigc_opt.InputError, match="episodes must be 1"):
        evaluate(examples / "offloading-small.json", ["random"], episodes=4)


def test_on_the_command_line(process, tmp_path, capsys):
    out, picture = tmp_path / "report.json", tmp_path / "picture.svg"
    words = ["evaluate", str(process), "--policy", "popular", "--policy", "lru", "--episodes", "2", "--workers", "1"]
    assert main([*words, "-o", str(out), "--picture", str(picture)]) == 0
    printed = capsys.readouterr()
    assert "[non-anticipative lower]" in printed.out and "episode 2 of 2" in printed.err
    data = json.loads(out.read_text())
    assert data["format"] == "aigc-opt/report" and [p["name"] for p in data["policies"]] == ["popular", "lru"]
    assert not (tmp_path / "report.json.episodes").exists() and picture.exists()
    assert main([*words, "-o", "-", "--quiet"]) == 0
    same = json.loads(capsys.readouterr().out)
    assert [p["cost"] for p in same["policies"]] == [p["cost"] for p in data["policies"]]
    out.unlink()
    (tmp_path / "full.svg").symlink_to("/dev/full")
    assert main([*words, "-o", str(out), "--picture", str(tmp_path / "full.svg")]) == 2  # the report is there
    assert json.loads(out.read_text())["policies"][0]["cost"] == data["policies"][0]["cost"]


def test_a_picture_in_another_format_is_refused_first(process, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(running.Episodes, "play", lambda self, number: pytest.fail("played"))
    picture = tmp_path / "picture.png"
    assert main(["evaluate", str(process), "--policy", "lru", "--picture", str(picture)]) == 2
    err = capsys.readouterr().err
    assert err.endswith("picture.png: must end in .svg; aigc-opt plot draws a report's gaps as .png or .pdf\n")
    assert err.count("\n") == 1 and not picture.exists()


def test_killed_for_good_it_leaves_no_process_and_resumes(examples, tmp_path):
    process = small_process(examples, tmp_path, models=3, users=2)  # few caches to sample: the kill is soon
    out = tmp_path / "report.json"
    command = [sys.executable, "-m", "aigc_opt", "evaluate", str(process), "--policy", "popular-genetic"]
    command += ["--episodes", "400", "--workers", "2", "-o", str(out)]
    journal = tmp_path / "report.json.episodes"

    def episodes():
        return journal.read_text().count('{"episode"') if journal.exists() else 0

    running = subprocess.Popen(
        command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True, cwd=ROOT
    )
    for _ in range(600):
        if episodes() > 1:
            break
        time.sleep(0.1)
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    assert 2 <= episodes() < 400
    for _ in range(100):
        try:
            os.killpg(running.pid, 0)
        except ProcessLookupError:
            break
        time.sleep(0.1)
    else:
        os.killpg(running.pid, signal.SIGKILL)
        pytest.fail("workers outlived their parent")
    command[command.index("400")], command[command.index("--workers") + 1] = "3", "1"
    again = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert again.returncode == 0 and "were done before" in again.stderr
    assert json.loads(out.read_text())["episodes"] == 3
