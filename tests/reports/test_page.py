"""Pages of runs, seeds and searches, from made-up results."""

import re
from html.parser import HTMLParser

import jax
import pytest
from inferred import inferred
from msgspec.structs import replace
from reported import EVIL, held_out, metrics, reported_run, reported_seeds, row
from small import EXPERIMENT

from metarule import Feedforward, Polynomial, Trace
from metarule.analysis.comparison import rows_by_contender
from metarule.config.toml import ConfigError
from metarule.reports import page as pages
from metarule.reports.content import Page, Section, cell, interval_cell, table
from metarule.reports.held_out import score_tables, tuning_table, verdict
from metarule.reports.page import LARGEST, print_report, read_page, render
from metarule.reports.sources import last_equation, parameter_names, read_sources
from metarule.runs.directory import start_run
from metarule.runs.files import csv_text, read_json, write_json, write_text
from metarule.runs.metrics import append_metrics
from metarule.runs.theta_files import flat_parameters


class Reader(HTMLParser):
    """Elements of a page by name, and its visible text."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.texts = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.texts.append(data.strip())

    def count(self, tag):
        return sum(name == tag for name, _ in self.elements)


def page_of(path):
    text = render(read_page([str(path)]))
    assert len(text.encode()) <= LARGEST
    return text, Reader(text)


@pytest.mark.drawn
def test_the_page_of_a_run_tells_its_result_first(tmp_path):
    page = read_page([str(reported_run(tmp_path / "run"))])
    assert page.state == "done"
    assert page.lead[1:] == (
        "The learned rule scores 0.8500 (solved) on held-out tasks (8 tasks), 95 % interval 0.8300 to 0.8700.",
        "It is below delta: 0.9500; learned − delta = -0.1000 [-0.1100, -0.0900], paired.",
        "It cannot be told apart from backprop: 0.8600; learned − backprop = -0.0050 [-0.0150, +0.0050], paired.",
    )
    assert [section.title for section in page.sections] == [
        "What was learned",
        "How training went",
        "How it does on new tasks",
        "What was compared, and how it was tuned",
        "How to repeat it",
    ]
    assert not [
        one.note for one in (*page.figures, *(one for part in page.sections for one in part.figures)) if one.note
    ]
    text, reader = page_of(tmp_path / "run")
    assert (reader.count("svg"), reader.count("math")) == (4, 2)
    assert {"each meta-step", "rejected: 1", "median of lifetimes"} <= set(re.findall('data-curve="([^"]*)"', text))
    assert "metarule evaluate" in text


def test_a_page_refers_to_nothing_outside(tmp_path):
    _, reader = page_of(reported_run(tmp_path / "run"))
    targets = [value for _, found in reader.elements for name, value in found.items() if name in ("href", "src")]
    assert all(one.startswith(("#", "data:image/png")) for one in targets)
    assert ("html", {"lang": "en"}) in reader.elements
    policies = [found["content"] for tag, found in reader.elements if found.get("http-equiv")]
    assert policies[0].startswith("default-src 'none';")


def test_names_from_files_are_escaped(tmp_path):
    path = reported_run(tmp_path / "<script>oops()<", name=EVIL)
    write_json(path / "theta.json", {"names": [EVIL, "b"], "equation": f"Δw = {EVIL}"})
    text, reader = page_of(path)
    assert reader.count("script") == 1
    assert "<script>oops" not in text
    assert any("<script>oops()<" in one for one in reader.texts)
    assert EVIL in reader.texts


def test_numbers_sort_by_their_value():
    rows = [
        [cell("a"), cell(float("inf")), cell(1234)],
        [cell("b"), cell(None), cell(0.5, ".0%")],
        [cell("a-1"), cell(""), cell(-1e-5, ".0e")],
    ]
    text = render(Page("t", "done", (), (), (), (Section("s", tables=(table("c", ("x", "y", "z"), rows),)),)))
    assert re.findall('<td data-key="([^"]*)">([^<]*)</td>', text) == [
        ("Infinity", "inf"),
        ("1234", "1,234"),
        ("0.5", "50\N{NO-BREAK SPACE}%"),
        ("-1e-05", "−1e−05"),
    ]


def test_a_run_that_is_not_finished_gives_what_there_is(tmp_path):
    page = read_page([str(reported_run(tmp_path / "run", finished=False))])
    assert page.state == "stopped, 5 of 12 steps"
    assert page.lead[0].endswith(" Seed 3.")
    assert page.lead[1] == "This run is stopped. Monitored on held-out tasks at meta-step 5: solved 0.8000."
    assert [section.title for section in page.sections] == ["What was learned", "How training went", "How to repeat it"]
    assert page.sections[-1].commands[-2].startswith("metarule train --resume ")
    start_run(tmp_path / "new", EXPERIMENT, given=None)
    assert read_page([str(tmp_path / "new")]).lead[1] == "This run is stopped; it has no scores yet."


@pytest.mark.drawn
@pytest.mark.parametrize("finished", [0, 1, 2])
def test_several_seeds(tmp_path, finished):
    page = read_page([str(reported_seeds(tmp_path / "two", finished))])
    assert len(page.equations) == (finished > 0)
    assert ("2 seeds are done" in page.lead[1]) == (finished < 2)
    if finished == 2:
        assert [len(one.drawing) > 1000 for one in page.figures] == [True, True]
        (details,) = page.sections[0].details
        assert [one.text for one in details.table.rows[0]] == ["pre·modulator", "0.5", "0", "0.5", "0.5", "2 of 2"]


def test_an_inferred_rule(tmp_path):
    path = tmp_path / "run"
    start_run(path, EXPERIMENT, given=None)
    append_metrics(path, metrics())
    report = inferred(selected=("pre*post", "post^2*weight"), warnings=["<b>: look"])
    summary = {
        "equation": report["equation"],
        "inference": report,
        "held_out": {"metric": "R²", "learned": {"mean": 0.9}},
    }
    write_json(path / "summary.json", summary)
    page = read_page([str(path)])
    assert (
        page.lead[1]
        == "2 of 27 terms selected; 20 animals fitted, 5 held out. On held-out animals: R² of activity 0.9931."
    )
    assert page.lead[2].startswith("Closest of 2 other models: oja; inferred − oja = +0.14 nats an animal")
    assert page.lead[-1] == "<b>: look"
    assert "What was compared" in [section.title for section in page.sections]


def test_a_structure_search(tmp_path):
    start_run(tmp_path / "run", EXPERIMENT, given=None)
    write_json(tmp_path / "run" / "evolve.json", {"options": {"generations": 2}, "generation": 2})
    rows = [{"terms": 1, "mean": 0.7, "low": 0.6, "high": 0.8, "names": ["pre*modulator"]}]
    write_json(tmp_path / "run" / "front.json", {"metric": "solved", "evaluated": 9, "structures": rows})
    assert read_page([str(tmp_path / "run")]).lead[1] == "The best of 9 structures has solved 0.7000: pre·modulator."


def test_evaluations_have_the_scores_of_each_task(tmp_path):
    folder = reported_run(tmp_path / "run") / "evaluations" / "<i>"
    folder.mkdir(parents=True)
    write_json(folder / "summary.json", {"held_out": held_out()})
    rows = [{"contender": name, "task": task, "solved": 0.5} for name in ("learned", EVIL) for task in (10, 9)]
    write_text(folder / "tasks.csv", csv_text(rows))
    assert page_of(tmp_path / "run")[1].count("script") == 1
    (section,) = [one for one in read_page([str(tmp_path / "run")]).sections if one.title == "Evaluation <i>"]
    by_task = [[one.text for one in row] for row in section.details[0].table.rows]
    assert by_task == [["9", "0.5000", "0.5000"], ["10", "0.5000", "0.5000"]]


def test_baselines_with_equal_scores_are_named_together():
    report = held_out()
    report["baselines"]["adam"] = row(0.95, -0.1)
    report["baselines"]["twin"] = row(0.85) | {"difference": {"mean": 0.0, "low": None, "high": None}}
    _, below, even = verdict(report)
    assert below == "It is below delta and adam: 0.9500; learned − delta = -0.1000 [-0.1100, -0.0900], paired."
    assert "2 baselines, of which backprop is the best" in even
    report["baselines"] = {"twin": report["baselines"]["twin"]}
    assert verdict(report)[1] == "It cannot be told apart from twin: 0.8500; learned − twin = +0.0000, paired."


def test_what_tells_nothing_is_left_out():
    report = held_out()
    assert [one.caption for one in score_tables(report)] == ["Scores at the end of a lifetime on held-out tasks"]
    assert "steps to 0.9" in score_tables(report)[0].head
    for one in rows_by_contender(report).values():
        one["steps_to_threshold"] = {"at": None, "low": None, "high": None}
    assert "steps to 0.9" not in score_tables(report)[0].head
    report["baselines"] |= {"ideal_observer": row(0.9) | {"learning_rate": None, "tuning_lifetimes": 0}}
    report["baselines"]["delta"]["learning_rate"] = 10.0
    tuned = tuning_table([report])
    assert [cells[0].text for cells in tuned.rows] == ["delta", "backprop"]
    assert tuned.note.endswith("beyond which others may be better: delta.")


def test_a_run_that_goes_on_has_the_equation_of_its_last_meta_step(tmp_path):
    traces = {"eligibility": Trace(of="pre*post", decay=0.8)}
    rule = Polynomial(terms=("modulator*eligibility", "pre*post"), traces=traces, frozen=("pre*post",))
    inner_loop = replace(EXPERIMENT.inner_loop, theta="per_path")
    experiment = replace(EXPERIMENT, rule=rule, circuit=Feedforward(hidden=(2,)), inner_loop=inner_loop)
    start_run(tmp_path / "run", experiment, given=None)
    lifetime = experiment.lifetime
    theta = jax.tree.map(lambda leaf: leaf + 0.5, lifetime.init_theta(jax.random.key(0)))
    described = {name: float(value) for name, value in flat_parameters(lifetime, theta).items()}
    append_metrics(tmp_path / "run", [one | {"theta": list(described.values())} for one in metrics()])
    sources = read_sources(tmp_path / "run")
    assert list(parameter_names(sources)) == list(described)
    assert last_equation(sources) == lifetime.equation(theta)


def test_intervals_with_equal_ends_have_their_half():
    assert interval_cell({"low": 0.02 - 4e-12, "high": 0.02 + 4e-12}, ".4g").text == "0.02 ± 4.0e-12"
    assert interval_cell({"low": 0.01, "high": 0.03}, ".4g").text == "0.01 to 0.03"


def test_an_explanation_has_its_sentences(tmp_path):
    folder = reported_run(tmp_path / "run") / "explanation"
    folder.mkdir()
    write_json(folder / "summary.json", {"sentences": [f"Δw is close to {EVIL}."], "parts": [], "maps": []})
    text, reader = page_of(tmp_path / "run")
    assert f"Δw is close to {EVIL}." in reader.texts
    assert text.count("<script") == 1


def test_phenomena_of_conditioning(tmp_path):
    timing = {"field": "delays", "value": 3, "side": "between", "learned": 0.9, "initial": 0.0, "delta": 0.5}
    shares = {"trained": False, "shown": 0.9, "initial": 0.0, "baselines": {"delta": 0.5}}
    report = {EVIL: shares | {"by_timing": [timing], "by_rate": [{"rate": 0.1, "delta": 0.5}]}}
    path = reported_run(tmp_path / "run")
    (path / "figures").mkdir()
    (path / "figures" / "phenomena.png").write_bytes(b"an image")
    summary = read_json(path / "summary.json")
    write_json(path / "summary.json", summary | {"phenomena": report})
    _, reader = page_of(path)
    (image,) = [found for tag, found in reader.elements if tag == "img"]
    assert image["src"] == "data:image/png;base64,YW4gaW1hZ2U="
    assert f"{EVIL} (not trained on)" in reader.texts
    assert "delays ~3" in reader.texts


@pytest.mark.drawn
def test_large_figures_are_left_out(tmp_path, monkeypatch):
    page = read_page([str(reported_run(tmp_path / "run"))])
    monkeypatch.setattr(pages, "LARGEST", 60_000)
    assert len(render(page)) < 60_000
    assert "too large for this page" in render(page)


def test_damage_is_one_line(tmp_path, capsys):
    path = reported_run(tmp_path / "run")
    for content, message in (("{", "damaged"), ('{"held_out": {"learned": 3, "baselines": 3}}', "damaged: ")):
        (path / "summary.json").write_text(content)
        with pytest.raises(ConfigError, match=message) as raised:
            read_page([str(path)])
        assert str(raised.value).count("\n") == 0
    print_report(path)
    assert "this report could not be written" in capsys.readouterr().err
    for name in ("nowhere", ""):
        with pytest.raises(ConfigError):
            read_page([str(tmp_path / name)])
