import msgspec
import pytest

from metarule.config.toml import ConfigError, decode, read
from metarule.runs.experiment import Experiment

BAD = {
    "unknown key": (
        "rule.kind = 'polynomial'\nrule.hiden = 3",
        "rule.hiden = 3: there is no such field; allowed: terms, traces",
    ),
    "unknown section": ("ruler.terms = []", "ruler = {'terms': []}: there is no such field; allowed: seed"),
    "unknown kind": ("tasks.kind = 'bolean'", "tasks.kind = 'bolean': allowed: boolean, points, tabular, conditioning"),
    "wrong type": ("tasks = {kind = 'boolean', inputs = 'three'}", "tasks.inputs = 'three': expected `int`, got `str`"),
    "number for text": ("optimizer.name = 3", "optimizer.name = 3: expected `str`, got `int`"),
    "value for a table": ("tasks = 3", "tasks = 3: expected a table, got `int`"),
    "negative steps": ("optimizer.steps = -3", "optimizer.steps = -3: expected `int` >= 1"),
    "fraction of a step": ("optimizer.steps = 2.5", "optimizer.steps = 2.5: expected `int`, got `float`"),
    "zero tasks": ("optimizer.batch_size = 0", "optimizer.batch_size = 0: expected `int` >= 1"),
    "unknown term": (
        "rule.kind = 'polynomial'\nrule.terms = ['pre*dopamine']",
        "rule: term 'pre*dopamine': 'dopamine' is not a variable; allowed: pre",
    ),
    "term that cannot be read": (
        "rule.kind = 'polynomial'\nrule.terms = ['pre post']",
        "rule: term 'pre post': 'prepost' is not a variable; allowed: pre",
    ),
    "unknown neuron": (
        "circuit = {kind = 'conditioning', synapses = [{pre = 'CS3', post = 'motor', weight = [0, 1]}]}",
        "circuit: synapse CS3 → motor: pre = 'CS3' is not a neuron; allowed: CS1, CS2, US, facilitatory, motor",
    ),
    "trial without a stimulus": (
        "tasks = {kind = 'conditioning', phenomena = [{name = 'x', criteria = ['after CS1 < 1'], "
        "animal = {phases = [{trials = ['CS1 > UCS'], repetitions = [1, 2]}]}}]}",
        "tasks.phenomena.0.animal.phases.0: trial 'CS1 > UCS': 'UCS' is not a stimulus; allowed: CS1, CS2, US",
    ),
    "name that a figure would read as a formula": (
        "tasks = {kind = 'conditioning', phenomena = [{name = '$x', criteria = ['after CS1 < 1'], "
        "animal = {phases = [{trials = ['CS1 > US'], repetitions = [1, 2]}]}, "
        "control = {phases = [{trials = ['CS1'], repetitions = [1, 2]}]}}]}",
        "tasks.phenomena.0: name = '$x'; allowed: printable characters other than $",
    ),
    "variable that the circuit does not offer": (
        "rule = {kind = 'polynomial', terms = ['pre_trace*modulator']}",
        "rule: synapses of this circuit see no pre_trace; allowed: pre, post, potential, weight, modulator, neuromod",
    ),
    "lifetime too short for the tasks": (
        "rule = {kind = 'polynomial'}\ncircuit = {kind = 'conditioning'}\ntasks = {kind = 'conditioning'}",
        "inner_loop.steps = 200: these tasks need at least",
    ),
    "no terms": ("rule.kind = 'polynomial'\nrule.terms = []", "rule.terms = []: expected an array of length >= 1"),
    "term twice": (
        "rule.kind = 'polynomial'\nrule.terms = ['hebb', 'pre*post']",
        "rule: terms 'hebb' and 'pre*post' are equal; allowed: distinct terms",
    ),
    "initial of no term": (
        "rule.kind = 'polynomial'\nrule.initial = {oja = 1.0}",
        "rule: initial: term 'oja' is not in the rule; allowed: 1, weight",
    ),
    "initial that is text": (
        "rule.kind = 'polynomial'\nrule.initial = {weight = 'x'}",
        "rule.initial = {'weight': 'x'}: expected `float`, got `str`",
    ),
    "unknown option": (
        "circuit.kind = 'feedforward'\ncircuit.feedback = 'up'",
        "circuit.feedback = 'up': allowed: learned, random, transpose, zero",
    ),
    "size of nothing": (
        "circuit.kind = 'feedforward'\ncircuit.hidden = [8, 0]",
        "circuit.hidden.1 = 0: expected `int` >= 1",
    ),
    "output that does not fit": (
        "circuit.kind = 'feedforward'\ncircuit.output = 'softmax'",
        "circuit.output = 'softmax': the loss of these tasks needs 'sigmoid'",
    ),
    "not a number": ("inner_loop.weight_bound = nan", "inner_loop.weight_bound = nan: expected a finite number"),
    "infinite": ("optimizer.clip = inf", "optimizer.clip = inf: expected a finite number"),
    "share beyond one": (
        "inner_loop.online_loss_weight = 1.5",
        "inner_loop.online_loss_weight = 1.5: expected `float` <= 1.0",
    ),
    "unknown optimiser": (
        "optimizer.name = 'adm'",
        "optimizer: name 'adm' is no optimiser of Optax; allowed: adabelief",
    ),
    "neither a number nor all": (
        "optimizer.train_tasks = 'some'",
        "optimizer.train_tasks = 'some': allowed: all or a number",
    ),
    "neither a number nor a schedule": (
        "optimizer.learning_rate = [1]",
        "optimizer.learning_rate = [1]: expected `float | table`",
    ),
    "unknown schedule": (
        "optimizer.learning_rate = {name = 'cosine'}",
        "optimizer: learning_rate.name 'cosine' is no schedule of Optax; allowed: constant_schedule",
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
        "tasks: test_classes = 4; allowed: at least ways = 9",
    ),
    "seeds beyond 31 bits": ("seed = 2147483647\nseeds = 2", "seeds = 2: the last seed would be beyond 2147483647"),
    "rate given twice": (
        "optimizer.arguments = {learning_rate = 1.0}",
        "optimizer: arguments.learning_rate: give it as learning_rate",
    ),
    "classes that cannot be split": (
        "tasks = {kind = 'boolean', inputs = 2, functions = 'not_separable', split_by = 'npn'}",
        "tasks: split_by = npn: all functions are of one class",
    ),
    "field of another kind": (
        "optimizer = {kind = 'genetic', learning_rate = 0.1}",
        "optimizer.learning_rate = 0.1: there is no such field; allowed: steps, population",
    ),
    "odd population of pairs": (
        "optimizer = {kind = 'open_es', population = 5}",
        "optimizer: population = 5: candidates come in pairs here; allowed: an even number",
    ),
    "seed beyond 31 bits": ("seed = 4294967296", "seed = 4294967296: expected `int` <= 2147483647"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_configs_give_one_line_with_field_value_and_what_is_allowed(case, tmp_path):
    text, message = BAD[case]
    (tmp_path / "bad.toml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        decode(read(tmp_path / "bad.toml")[1], Experiment)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "suggestion"),
    [
        ("circuit.hiden = [8]", "hidden"),
        ("optimizer.estimtor.kind = 'forward'", "estimator"),
        ("rulers.terms = []", "rule"),
        ("tasks.kind = 'bolean'", "boolean"),
        ("circuit.activation = 'sigmid'", "sigmoid"),
        ("optimizer.name = 'adm'", "adam"),
    ],
)
def test_a_misspelt_name_gets_a_suggestion(text, suggestion):
    with pytest.raises(ConfigError) as caught:
        decode(msgspec.toml.decode(text), Experiment)
    assert str(caught.value).endswith(f"; did you mean '{suggestion}'?")
    assert "allowed: " in str(caught.value)


@pytest.mark.parametrize(
    ("short", "full"),
    [
        ("circuit.hidden = 8", "circuit = {kind = 'feedforward', hidden = [8]}"),
        ("rule.terms = 'hebb'", "rule = {kind = 'polynomial', terms = ['hebb']}"),
        ("tasks = {kind = 'points', shapes = 'moons'}", "tasks = {kind = 'points', shapes = ['moons']}"),
        ("evaluation.horizons = 2e0", "evaluation.horizons = [2]"),
        ("circuit = {hidden = [4]}", "circuit = {kind = 'feedforward', hidden = [4]}"),
        ("optimizer.estimator.scan = {}", "optimizer.estimator = {kind = 'reverse', scan = {kind = 'invertible'}}"),
        ("optimizer.learning_rate = 1", "optimizer.learning_rate = 1.0"),
        ("optimizer.steps = 1e2", "optimizer.steps = 100"),
    ],
)
def test_short_forms_are_completed(short, full):
    given, expected = (decode(msgspec.toml.decode(text), Experiment) for text in (short, full))
    assert given == expected


def test_a_required_kind_is_listed():
    class Table(msgspec.Struct):
        field: msgspec.defstruct("A", [], tag_field="kind", tag="a") | msgspec.defstruct(
            "B", [], tag_field="kind", tag="b"
        )

    with pytest.raises(ConfigError, match="^field.kind: this field is missing; allowed: a, b$"):
        decode({"field": {}}, Table)
