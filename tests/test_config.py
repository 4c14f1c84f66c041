import msgspec
import pytest

from metarule.config import ConfigError, decode, describe, override, parse_overrides, read
from metarule.experiment import Experiment, to_tree

BAD = {
    "unknown key": ("rule.hiden = 3", "rule.hiden = 3: there is no such field; allowed: terms, initial"),
    "unknown section": ("ruler.terms = []", "ruler = {'terms': []}: there is no such field; allowed: seed"),
    "unknown kind": ("tasks.kind = 'bolean'", "tasks.kind = 'bolean': allowed: boolean, tabular"),
    "wrong type": ("tasks = {kind = 'boolean', inputs = 'three'}", "tasks.inputs = 'three': expected `int`, got `str`"),
    "number for text": ("optimizer.name = 3", "optimizer.name = 3: expected `str`, got `int`"),
    "value for a table": ("tasks = 3", "tasks = 3: expected a table, got `int`"),
    "negative steps": ("optimizer.steps = -3", "optimizer.steps = -3: expected `int` >= 1"),
    "fraction of a step": ("optimizer.steps = 2.5", "optimizer.steps = 2.5: expected `int`, got `float`"),
    "no kind": ("tasks.inputs = 3", "tasks.kind: this field is missing; allowed: boolean, tabular"),
    "zero tasks": ("optimizer.tasks = 0", "optimizer.tasks = 0: expected `int` >= 1"),
    "unknown term": (
        "rule.terms = ['pre*dopamine']",
        "rule: term 'pre*dopamine' names no variable 'dopamine'; allowed: pre",
    ),
    "term that cannot be read": ("rule.terms = ['pre post']", "rule: term 'pre post' names no variable 'prepost'"),
    "no terms": ("rule.terms = []", "rule.terms = []: expected an array of length >= 1"),
    "term twice": ("rule.terms = ['hebb', 'pre*post']", "rule: terms 'hebb' and 'pre*post' are the same"),
    "initial of no term": (
        "rule.initial = {oja = 1.0}",
        "rule: initial term 'oja' is not in the rule; its terms: 1, weight",
    ),
    "initial that is text": (
        "rule.initial = {weight = 'x'}",
        "rule.initial = {'weight': 'x'}: expected `float`, got `str`",
    ),
    "unknown option": ("circuit.backward = 'up'", "circuit.backward = 'up': allowed: random, transpose, zero"),
    "size of nothing": ("circuit.hidden = [8, 0]", "circuit.hidden.1 = 0: expected `int` >= 1"),
    "output that does not fit": (
        "circuit.output = 'softmax'",
        "circuit.output = 'softmax': the loss of these tasks needs 'sigmoid'",
    ),
    "not a number": ("inner_loop.weight_bound = nan", "inner_loop.weight_bound = nan: expected a finite number"),
    "infinite": ("optimizer.clip = inf", "optimizer.clip = inf: expected a finite number"),
    "share beyond one": ("inner_loop.loss_along = 1.5", "inner_loop.loss_along = 1.5: expected `float` <= 1.0"),
    "unknown optimiser": (
        "optimizer.name = 'adm'",
        "optimizer: name 'adm' is no optimiser of Optax; allowed: adabelief",
    ),
    "argument of no optimiser": (
        "optimizer.arguments = {beta = 1}",
        "optimizer: arguments of adam: got an unexpected keyword",
    ),
    "schedule without a name": (
        "optimizer.learning_rate = {arguments = {}}",
        "optimizer.learning_rate.name: this field is missing",
    ),
    "too many ways": (
        "tasks = {kind = 'tabular', ways = 9}",
        "tasks: test_classes is 4; allowed: at least ways, which is 9",
    ),
    "seed beyond 31 bits": ("seed = 4294967296", "seed = 4294967296: expected `int` <= 2147483647"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_configs_give_one_line_with_field_value_and_what_is_allowed(case, tmp_path):
    text, says = BAD[case]
    (tmp_path / "bad.toml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        decode(read(tmp_path / "bad.toml"), Experiment)
    assert str(caught.value).startswith(says)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"), [("rule = [", "not TOML"), ("\xff", "not TOML"), ("a = 1\na = 2", "not TOML")]
)
def test_what_is_not_toml_is_refused(text, says, tmp_path):
    (tmp_path / "bad.toml").write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=says):
        read(tmp_path / "bad.toml")


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match="nothing.toml: No such file"):
        read(tmp_path / "nothing.toml")


@pytest.mark.parametrize(
    ("words", "pairs"),
    [
        (["--tasks.inputs", "3"], [("tasks.inputs", 3)]),
        (["--tasks.inputs=3", "--seed", "1"], [("tasks.inputs", 3), ("seed", 1)]),
        (["--rule.initial.pre*post", "-0.5"], [("rule.initial.pre*post", -0.5)]),
        (["--circuit.hidden", "[8, 8]"], [("circuit.hidden", [8, 8])]),
        (["--run.directory", "a b"], [("run.directory", "a b")]),
        (["--circuit.bias", "false"], [("circuit.bias", False)]),
    ],
)
def test_overrides_are_read(words, pairs):
    assert parse_overrides(words) == pairs


@pytest.mark.parametrize(
    ("words", "says"), [(["seed", "3"], "'seed' is not expected"), (["--seed"], "a value is missing")]
)
def test_bad_overrides_are_refused(words, says):
    with pytest.raises(ConfigError, match=says):
        parse_overrides(words)


def test_overrides_set_fields_and_leave_the_tree_as_it_was():
    tree = {"tasks": {"inputs": 2}}
    assert override(tree, [("tasks.inputs", 3), ("seed", 1)]) == {"tasks": {"inputs": 3}, "seed": 1}
    assert tree == {"tasks": {"inputs": 2}}


def test_a_new_kind_clears_its_table_wherever_it_stands():
    tree = {"tasks": {"kind": "boolean", "inputs": 4}}
    assert override(tree, [("tasks.ways", 2), ("tasks.kind", "tabular")]) == {"tasks": {"kind": "tabular", "ways": 2}}
    assert override(tree, [("tasks.kind", "boolean")]) == tree


def test_a_field_of_a_number_is_refused():
    with pytest.raises(ConfigError, match="--seed.x: 'x' would be a field of 3"):
        override({"seed": 3}, [("seed.x", 1)])


def test_what_is_written_decodes_to_the_same():
    given = {"rule": {"terms": ["seven", "oja"], "initial": {"oja": 0.5}, "frozen": ["1"]}, "seed": 4}
    experiment = decode(given, Experiment)
    text = msgspec.toml.encode(to_tree(experiment)).decode()
    assert decode(msgspec.toml.decode(text), Experiment) == experiment


def test_help_lists_every_field_of_every_kind():
    text = describe(Experiment)
    for field in ("--seed", "--rule.terms", "--tasks.ways", "--tasks.inputs", "--optimizer.learning_rate.name"):
        assert field in text
    assert "boolean" in text
    assert "random|transpose|zero" in text
