"""Pictures and pages of files, on the command line: what is drawn, and how what cannot be is told."""

from __future__ import annotations

import html.parser
import json

import pytest

import aigc_opt
from aigc_opt.cli import main
from aigc_opt.tradeoffs.front import front

pytest.importorskip("matplotlib").use("Agg")

NAMES = ("deployment-small", "offloading-small", "two-timescale-small")


@pytest.fixture(scope="module")
def files(examples, tmp_path_factory):
    """Results of the three problems, a sweep, a front, a report of an evaluation and a profile."""
    folder = tmp_path_factory.mktemp("files")
    for name in NAMES:
        aigc_opt.solve(examples / f"{name}.json").save(folder / f"{name}.json")
    small = examples / "deployment-small.json"
    aigc_opt.sweep(small, {"weights.delay": [1.0, 2.0]}, folder / "sweep.csv")
    front(small, "delay", points=4).save(folder / "front.csv")
    policies = [{"name": "popular", "gap": {"mean": 0.05, "ci": [0.04, 0.06]}}]
    report = {"format": "aigc-opt/report", "instance": {"name": "x"}, "episodes": 3, "confidence": 0.95}
    (folder / "report.json").write_text(json.dumps(report | {"policies": policies}))
    profile = {"quality": {"kind": "power", "floor": 0.1, "coefficient": 1.0, "exponent": 1.0}, "energy": None}
    profile |= {"latency": {"base_s": 0.1, "per_step_s": 0.2}, "fit": {"r2": {"quality": 0.9, "latency": 0.99}, "n": 9}}
    (folder / "profile.json").write_text(json.dumps(profile))
    return folder


ALL = (*(f"{name}.json" for name in NAMES), "sweep.csv", "front.csv", "report.json", "profile.json")


HEADS = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}
DRAWN = [*((name, "png") for name in ALL), ("sweep.csv", "svg"), ("sweep.csv", "pdf")]


@pytest.mark.parametrize("name, ending", DRAWN)
def test_every_file_has_a_picture(files, tmp_path, name, ending):
    output = tmp_path / f"x.{ending}"
    assert main(["plot", str(files / name), "-o", str(output)]) == 0
    assert output.read_bytes().startswith(HEADS[ending]) and output.stat().st_size > 3000


def test_an_instance_gives_names(files, examples, tmp_path):
    output = tmp_path / "x.svg"
    words = ["plot", str(files / "deployment-small.json"), "-o", str(output)]
    assert main([*words, "--instance", str(examples / "deployment-small.json")]) == 0
    assert main([*words, "--instance", str(examples / "deployment-medium.json")]) == 2


@pytest.mark.parametrize("name, text", [("x.json", "{}"), ("x.csv", "a,b\n1,2\n"), ("x.csv", ""), ("x.json", "[")])
def test_no_picture_of_other_files(tmp_path, capsys, name, text):
    (tmp_path / name).write_text(text)
    assert main(["plot", str(tmp_path / name), "-o", str(tmp_path / "x.png")]) == 2
    assert capsys.readouterr().err.startswith(f"aigc-opt: {tmp_path / name}: ")


def test_no_picture_in_other_formats(files, tmp_path, capsys):
    assert main(["plot", str(files / "sweep.csv"), "-o", str(tmp_path / "x.gif")]) == 2
    assert main(["plot", str(files / "sweep.csv"), "-o", str(tmp_path / "nowhere" / "x.png")]) == 2
    assert capsys.readouterr().err.count("\n") == 2


@pytest.mark.parametrize("key", ["trace", "terms", "certificate", "instance", "runtime_s", "solution"])
def test_results_that_are_not_whole(files, tmp_path, capsys, key):
    data = json.loads((files / "deployment-small.json").read_text())
    for broken in ({k: v for k, v in data.items() if k != key}, {**data, key: "x"}):
        (tmp_path / "x.json").write_text(json.dumps(broken))
        for command, output in (("plot", "x.png"), ("report", "x.html")):
            assert main([command, str(tmp_path / "x.json"), "-o", str(tmp_path / output)]) == 2
            assert "Traceback" not in capsys.readouterr().err


class Reader(html.parser.HTMLParser):
    """Counts what the page loads from elsewhere, and what it is made of."""

    def __init__(self):
        super().__init__()
        self.outside, self.count, self.open = [], {}, []

    def handle_starttag(self, tag, attributes):
        self.count[tag] = self.count.get(tag, 0) + 1
        for key, value in attributes:
            if key in ("src", "href") and not value.startswith("data:"):
                self.outside.append(value)
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_whole_and_opens_offline(files, examples, tmp_path):
    output = tmp_path / "x.html"
    results = [str(files / f"{name}.json") for name in NAMES]
    words = ["report", *results, "-o", str(output), "--instance", str(examples / "deployment-small.json")]
    assert main(words) == 0
    text = output.read_text()
    reader = Reader()
    reader.feed(text)
    assert not reader.outside and "http" not in text.split("base64")[0] and not reader.open
    assert reader.count["section"] == 3 and reader.count["img"] >= 6 and "script" not in reader.count
    for path in results:
        data = json.loads(open(path).read())
        assert f"[{data['lower_bound']:.7g}, {data['objective']:.7g}]" in text
    assert "the checker accepts the point" in text and "Per server" in text


def test_names_in_the_page_are_only_text(files, tmp_path):
    data = json.loads((files / "deployment-small.json").read_text())
    data["instance"]["name"] = "<script>alert(1)</script> $x$ &"
    (tmp_path / "x.json").write_text(json.dumps(data))
    assert main(["report", str(tmp_path / "x.json"), "-o", str(tmp_path / "x.html")]) == 0
    assert "<script>" not in (tmp_path / "x.html").read_text()


def test_pages_of_what_they_are_not(files, examples, tmp_path, capsys):
    words = ["report", str(files / "deployment-small.json"), "-o", str(tmp_path / "x.html")]
    assert main([*words, "--instance", str(examples / "deployment-medium.json")]) == 2
    assert "is the instance of none" in capsys.readouterr().err
    assert main(["report", str(examples / "deployment-small.json"), "-o", str(tmp_path / "x.html")]) == 2
    assert "is not a result file" in capsys.readouterr().err


def test_infeasible_results_have_a_page(examples, tmp_path):
    aigc_opt.solve(examples / "offloading-infeasible.json").save(tmp_path / "x.json")
    assert main(["report", str(tmp_path / "x.json"), "-o", str(tmp_path / "x.html")]) == 0
    assert "no point keeps all constraints" in (tmp_path / "x.html").read_text()
