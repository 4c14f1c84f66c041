"""Plans of sweep files, and errors before anything runs."""

from pathlib import Path

import pytest
import tomli_w

from metarule.config.toml import ConfigError, decode
from metarule.runs.experiment import Experiment, to_tree
from metarule.sweeps.declaration import read_sweep, shorten
from metarule.sweeps.plan import Point, make_plan, with_values

CONFIG = Path(__file__).parents[2] / "configs" / "boolean.toml"
RATE = "optimizer.learning_rate.arguments.init_value"
SWEEPS = sorted((CONFIG.parents[1] / "benchmarks" / "sweeps").glob("*.toml"))


def plan(folder, **fields):
    file = folder / "sweep.toml"
    file.write_text(tomli_w.dumps({"config": str(CONFIG)} | fields))
    return make_plan(*read_sweep(file))


def test_seeds_and_rates_share_one_program(tmp_path):
    made = plan(tmp_path, seeds=8, product={RATE: [1e-3, 1e-2, 1e-1]})
    (cell,) = made.cells
    assert cell.fields == (RATE,)
    assert cell.points[:2] == (Point(0, 0), Point(0, 1))
    assert [values for (values,) in cell.values] == [1e-3] * 8 + [1e-2] * 8 + [1e-1] * 8
    assert [setting.label for setting in made.settings] == [
        f"learning_rate.init_value = {rate}" for rate in ("0.001", "0.01", "0.1")
    ]


@pytest.mark.parametrize(
    ("fields", "data"),
    [
        ({"optimizer.learning_rate": [1e-3, 1e-2]}, True),
        ({"inner_loop.online_loss_weight": [0.2, 0.8]}, True),
        ({"inner_loop.weight_bound": [2.0, 3.0]}, True),
        ({"rule.hebbian_scale": [0.1, 0.2]}, True),
        ({"optimizer.clip": [0.1, 1.0]}, True),
        ({"optimizer.train_tasks": [1, 50]}, True),
        ({"optimizer.train_tasks": [1, "all"]}, False),
        # Single precision does not have this number.
        ({"optimizer.train_tasks": [1, 2**24 + 1]}, False),
        ({"inner_loop.steps": [100, 200]}, False),
        ({"tasks.inputs": [2, 3]}, False),
        ({"inner_loop.theta": ["shared", "per_projection"]}, False),
        # A program branches on whether there is a penalty.
        ({"inner_loop.l1": [0.0, 1e-3]}, False),
    ],
)
def test_fields_that_change_shapes_or_code_have_separate_cells(fields, data, tmp_path):
    made = plan(tmp_path, seeds=2, product=fields)
    assert [len(cell.points) for cell in made.cells] == ([4] if data else [2, 2])


def test_a_schedule_that_branches_on_a_number_has_separate_cells(tmp_path):
    # Exponential schedules branch on whether their rate is 0.
    arguments = {"init_value": 1e-2, "decay_rate": 0.5}
    rate = {"optimizer.learning_rate": {"name": "exponential_decay", "arguments": arguments}}
    made = plan(tmp_path, set=rate, product={"optimizer.learning_rate.arguments.decay_rate": [0.5, 0.6]})
    assert len(made.cells) == 2


def test_in_cells_of_one_point_only_the_seed_is_data(tmp_path):
    made = plan(tmp_path, seeds=2, cell=1, product={RATE: [1e-3, 1e-2]})
    assert [(len(cell.points), cell.fields) for cell in made.cells] == [(1, ())] * 4
    assert [cell.experiment.optimizer.learning_rate.arguments["init_value"] for cell in made.cells] == [1e-3] * 2 + [
        1e-2
    ] * 2


def test_a_short_sweep_has_no_axes_of_fields_that_it_sets(tmp_path):
    axes = {"optimizer.steps": [100, 200, 300], RATE: [1e-3, 1e-2, 1e-1]}
    file = tmp_path / "sweep.toml"
    reference = "steps = 300, learning_rate.init_value = 0.1"
    file.write_text(tomli_w.dumps({"config": str(CONFIG), "seeds": 5, "product": axes, "reference": reference}))
    sweep, base = read_sweep(file)
    small = make_plan(*shorten(sweep)[:1], base, shorten(sweep)[1])
    assert [setting.label for setting in small.settings] == [
        f"learning_rate.init_value = {rate}" for rate in (0.001, 0.01)
    ]
    assert {setting.experiment.optimizer.steps for setting in small.settings} == {10}


def test_zip_product_and_cases_multiply(tmp_path):
    made = plan(
        tmp_path,
        seeds=[3, 5],
        product={RATE: [1e-3, 1e-2]},
        zip={"tasks.inputs": [2, 3], "inner_loop.steps": [100, 200]},
        cases=[
            {"name": "plain", "set": {"optimizer.estimator.kind": "reverse", "optimizer.estimator.scan.kind": "plain"}},
            {"name": "as it is"},
        ],
    )
    assert len(made.settings) == 8
    assert made.settings[0].label == "plain, inputs = 2, steps = 100, learning_rate.init_value = 0.001"
    assert [(len(cell.points), cell.experiment.tasks.inputs) for cell in made.cells] == [(4, 2), (4, 3)] * 2
    assert {point.seed for cell in made.cells for point in cell.points} == {3, 5}
    assert made.axes == ("case", "tasks.inputs", "inner_loop.steps", RATE)


def test_a_case_has_its_own_axes(tmp_path):
    spread, crossover = "optimizer.spread", "optimizer.crossover"
    cases = [
        {
            "name": "genetic",
            "set": {"optimizer.kind": "genetic"},
            "product": {spread: [0.1, 0.3], crossover: [0.0, 0.5]},
        },
        {"name": "CMA-ES", "set": {"optimizer.kind": "cma_es"}, "product": {spread: [0.2]}},
        {"name": "as it is"},
    ]
    made = plan(tmp_path, seeds=2, cases=cases)
    assert [setting.label for setting in made.settings][3:] == [
        "genetic, spread = 0.3, crossover = 0.5",
        "CMA-ES, spread = 0.2",
        "as it is",
    ]
    assert made.axes == ("case", spread, crossover)
    assert [(len(cell.points), cell.fields) for cell in made.cells] == [
        (8, (spread, crossover)),
        (2, (spread,)),
        (2, ()),
    ]


def test_marks_are_spread_on_a_logarithmic_scale_and_end_with_the_run(tmp_path):
    marks = {count: plan(tmp_path, curve=count, set={"optimizer.steps": 100}).cells[0].marks for count in (0, 1, 3, 50)}
    assert (marks[0], marks[1], marks[3]) == ((), (100,), (1, 10, 100))
    assert marks[50][:3] == (1, 2, 3)
    assert marks[50][-1] == 100


def test_a_case_with_another_kind_keeps_fields_of_the_sweep(tmp_path):
    cases = [{"name": "polynomial"}, {"name": "network", "set": {"rule.kind": "mlp"}}]
    first, second = plan(tmp_path, set={"optimizer.steps": 7}, cases=cases).settings
    assert (type(first.experiment.rule).__name__, type(second.experiment.rule).__name__) == ("Polynomial", "MLP")
    assert first.experiment.optimizer.steps == second.experiment.optimizer.steps == 7


def test_cells_have_a_largest_size_and_distinct_names(tmp_path):
    made = plan(tmp_path, seeds=7, cell=3, product={RATE: [1e-3, 1e-2]})
    assert [len(cell.points) for cell in made.cells] == [2, 3, 3, 3, 3]
    assert len({cell.name for cell in made.cells}) == 5
    assert made.tree() == plan(tmp_path, seeds=7, cell=3, product={RATE: [1e-3, 1e-2]}).tree()


def test_every_setting_decodes_again_from_the_plan(tmp_path):
    made = plan(tmp_path, product={RATE: [1e-3, 1e-2]})
    for setting, tree in zip(made.settings, made.tree()["settings"], strict=True):
        assert decode(tree["experiment"], Experiment) == setting.experiment
        assert to_tree(with_values(setting.experiment, {RATE: 0.5}))["optimizer"]["learning_rate"]["arguments"] == {
            "init_value": 0.5
        }


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"product": {"rule.hiden": [1, 2]}}, "rule.hiden = 1: there is no such field; allowed: terms"),
        ({"product": {RATE: []}}, f"product.{RATE} = []: an axis needs at least one value"),
        ({"seeds": []}, "seeds = []: an axis needs at least one value"),
        ({"seeds": [1, 1]}, "seeds = [1, 1]: one of them is repeated"),
        ({"seeds": 0}, "seeds = 0"),
        (
            {"product": {RATE: [1e-3]}, "zip": {RATE: [1e-2]}},
            f"product.{RATE}: two axes on one field; zip.{RATE} sets it, too",
        ),
        ({"set": {RATE: 0.1}, "product": {"optimizer.learning_rate": [1e-3]}}, "two axes on one field"),
        ({"zip": {"optimizer.learning_rate": [0.1]}, "product": {RATE: [1e-3]}}, "two axes on one field"),
        ({"product": {RATE: [1e-3]}, "cases": [{"name": "x", "set": {RATE: 1.0}}]}, "two axes on one field"),
        (
            {"set": {RATE: 1.0}, "cases": [{"name": "x", "set": {RATE: 2.0}}]},
            f"cases.x.{RATE}: two axes on one field; set.{RATE} sets it, too",
        ),
        (
            {"cases": [{"name": "x", "set": {RATE: 1.0}, "product": {RATE: [2.0]}}]},
            f"cases.x.product.{RATE}: two axes on one field; cases.x.{RATE} sets it, too",
        ),
        ({"cases": [{"name": "x", "product": {RATE: []}}]}, f"cases.x.product.{RATE} = []: an axis needs at least"),
        ({"zip": {"tasks.inputs": [2], "optimizer.steps": [3, 4]}}, "equally many values"),
        ({"cases": [{"name": "x", "set": {"rule.kind": "y"}}]}, "x: rule.kind = 'y': allowed: polynomial, mlp"),
        ({"cases": [{"name": "x"}, {"name": "x"}]}, "cases: 2 have the name 'x'"),
        ({"product": {"tasks.inputs": [2, 2]}}, "inputs = 2: this setting would be run 2 times"),
        ({"product": {"evaluation.points": [2, 4]}}, "product.evaluation.points: nothing that a sweep measures"),
        (
            {"set": {"evaluation.monitor_every": 2}},
            "set.evaluation.monitor_every: nothing that a sweep measures depends on it",
        ),
        ({"product": {"run.steps_per_call": [1, 2]}}, "product.run.steps_per_call: nothing that a sweep measures"),
        ({"product": {"seed": [1]}}, "product.seed: a sweep sets this by seeds of the sweep"),
        (
            {"set": {"optimizer": {"steps": 3}}},
            'set.optimizer: a whole table; name its fields in quotes, as "optimizer.',
        ),
        ({"reference": "x"}, "reference = 'x': there is no such setting; allowed: base config"),
        ({"axes": 1}, "axes = 1: there is no such field; allowed: config, seeds"),
        ({"config": "nothing.toml"}, "nothing.toml: No such file or directory"),
    ],
)
def test_bad_input_is_refused_in_one_line(fields, message, tmp_path):
    with pytest.raises(ConfigError) as caught:
        plan(tmp_path, **fields)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_data_files_are_beside_the_sweep_and_give_way_to_a_data_set_by_name(tmp_path, monkeypatch):
    for name in ("one.csv", "other.csv"):
        (tmp_path / name).write_text("x,y\n" + "".join(f"{row},{'ab'[row % 2]}\n" for row in range(8)))
    tasks = {"kind": "tabular", "ways": 2, "train_examples": 1, "test_examples": 1, "test_classes": "all"}
    config = {"circuit": {"output": "softmax"}, "tasks": tasks | {"data": "one.csv", "label": "y"}}
    (tmp_path / "own.toml").write_text(tomli_w.dumps(config))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    paths = [str(tmp_path / name) for name in ("one.csv", "other.csv")]
    for axes in (
        {"product": {"tasks.data": ["one.csv", "other.csv"]}},
        {"zip": {"tasks.data": ["one.csv", "other.csv"]}},
        {"cases": [{"name": "files", "product": {"tasks.data": ["one.csv", "other.csv"]}}]},
        {"cases": [{"name": name, "set": {"tasks.data": f"{name}.csv"}} for name in ("one", "other")]},
    ):
        made = plan(tmp_path, config="own.toml", **axes)
        assert [setting.experiment.tasks.data for setting in made.settings] == paths
        assert len(made.cells) == 2
    cases = [{"name": "own"}, {"name": "iris", "set": {"tasks.dataset": "iris"}}]
    made = plan(tmp_path, config="own.toml", set={"tasks.data": "other.csv"}, cases=cases)
    assert [setting.experiment.tasks.data for setting in made.settings] == [paths[1], ""]


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_shipped_sweeps_decode_and_describe_their_result(path):
    sweep, base = read_sweep(path)
    assert make_plan(sweep, base).cells
    assert sum(len(cell.points) for cell in make_plan(shorten(sweep)[0], base, shorten(sweep)[1]).cells) <= 8
    opening = path.read_text().split("\n\nconfig")[0]
    assert all(line.startswith("#") for line in opening.splitlines() if line)
    for words in (f"metarule sweep benchmarks/sweeps/{path.name}", "Time:", "Expect:"):
        assert words in opening
