import msgspec
import pytest

from metarule.config.toml import ConfigError, decode, override, parse_overrides, read
from metarule.runs.experiment import Experiment, to_tree


@pytest.mark.parametrize(
    ("text", "message"), [("rule = [", "not TOML"), ("\xff", "not text"), ("a = 1\na = 2", "not TOML")]
)
def test_a_file_that_is_not_toml_is_refused(text, message, tmp_path):
    (tmp_path / "bad.toml").write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=message):
        read(tmp_path / "bad.toml")


def test_a_file_may_have_a_byte_order_mark_and_line_ends_of_windows(tmp_path):
    (tmp_path / "config.toml").write_bytes(b"\xef\xbb\xbfseed = 1\r\nseeds = 2\r\n")
    assert read(tmp_path / "config.toml")[1] == {"seed": 1, "seeds": 2}


def test_a_missing_file_is_named(tmp_path):
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
        (["--run.directory", "2026-01-31"], [("run.directory", "2026-01-31")]),
        (["--seed", "9" * 5000], [("seed", "9" * 5000)]),
        (["--circuit.bias", "false"], [("circuit.bias", False)]),
    ],
)
def test_overrides_are_read(words, pairs):
    assert parse_overrides(words) == pairs


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["seed", "3"], "'seed' is not expected"),
        (["--seed"], "a value is missing"),
        (["--rule..l1", "3"], "'--rule..l1' is not expected"),
        (["--"], "'--' is not expected"),
    ],
)
def test_bad_overrides_are_refused(words, message):
    with pytest.raises(ConfigError, match=message):
        parse_overrides(words)


def test_overrides_set_fields_of_a_copy():
    tree = {"tasks": {"inputs": 2}}
    assert override(tree, [("tasks.inputs", 3), ("seed", 1)]) == {"tasks": {"inputs": 3}, "seed": 1}
    assert tree == {"tasks": {"inputs": 2}}


def test_a_new_kind_clears_its_table_in_any_order():
    tree = {"tasks": {"kind": "boolean", "inputs": 4}}
    assert override(tree, [("tasks.ways", 2), ("tasks.kind", "tabular")]) == {"tasks": {"kind": "tabular", "ways": 2}}
    assert override(tree, [("tasks.kind", "boolean")]) == tree


def test_a_table_without_a_kind_keeps_that_of_the_table_it_replaces():
    tree = {"circuit": {"kind": "recurrent", "neurons": 4, "leak": 0.1}}
    assert override(tree, [("circuit", {"neurons": 5})]) == {"circuit": {"kind": "recurrent", "neurons": 5}}
    assert override(tree, [("circuit", {"kind": "feedforward"})]) == {"circuit": {"kind": "feedforward"}}
    assert decode(override({}, [("circuit", {"hidden": [4]})]), Experiment).circuit.hidden == (4,)


def test_a_field_of_a_number_is_refused():
    with pytest.raises(ConfigError, match="--seed.x: 'x' would be a field of 3"):
        override({"seed": 3}, [("seed.x", 1)])


def test_a_written_experiment_decodes_to_itself():
    given = {
        "rule": {"kind": "polynomial", "terms": ["seven", "oja"], "initial": {"oja": 0.5}, "frozen": ["1"]},
        "seed": 4,
    }
    experiment = decode(given, Experiment)
    text = msgspec.toml.encode(to_tree(experiment)).decode()
    assert decode(msgspec.toml.decode(text), Experiment) == experiment


def test_a_field_is_no_value_of_another_field():
    with pytest.raises(ConfigError, match="--rule.l1: a value is missing"):
        parse_overrides(["--rule.l1", "--run.directory", "x"])
    assert parse_overrides(["--seed", "-1"]) == [("seed", -1)]


def test_outer_kinds_are_set_before_inner_ones_in_any_order():
    tree = {"optimizer": {"kind": "gradient", "estimator": {"kind": "forward"}}}
    inner, outer = ("optimizer.estimator.scan.kind", "plain"), ("optimizer.estimator.kind", "reverse")
    for pairs in ([inner, outer], [outer, inner]):
        assert override(tree, pairs)["optimizer"]["estimator"] == {"kind": "reverse", "scan": {"kind": "plain"}}
