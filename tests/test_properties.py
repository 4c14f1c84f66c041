"""What holds of any config: it is read as it was written, or refused in one line that names a field."""

import re
import tomllib

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from metarule.config.schema import describe
from metarule.config.toml import ConfigError, decode, override, parse_overrides
from metarule.rules.terms import VARIABLES, parse, show
from metarule.runs.experiment import Experiment, to_tree

FIELDS = sorted(set(re.findall(r"--([\w.]+)", describe(Experiment))))
NAMES = {"fields"} | {part for field in FIELDS for part in field.split(".")}
KINDS = sorted(set(re.findall(r'\[([\w.]+)\] kind = "(\w+)"', describe(Experiment))))
WORDS = st.sampled_from([kind for _, kind in KINDS]) | st.sampled_from(VARIABLES) | st.text(max_size=20)
SINGLE = st.integers() | st.floats() | st.booleans() | WORDS
VALUES = st.recursive(
    SINGLE, lambda one: st.lists(one, max_size=3) | st.dictionaries(WORDS, one, max_size=3), max_leaves=5
)
SETTINGS = st.lists(
    st.tuples(st.sampled_from(FIELDS), VALUES) | st.sampled_from([(f"{table}.kind", kind) for table, kind in KINDS]),
    max_size=3,
)
BASE = to_tree(Experiment())


def read(pairs):
    """The experiment, or None where it is refused, as it should be."""
    try:
        return decode(override(BASE, pairs), Experiment)
    except ConfigError as error:
        assert "\n" not in str(error)
        assert str(error).isprintable()
        assert len(str(error)) < 2100
        assert NAMES & set(re.findall(r"\w+", str(error)))
        return None


@settings(deadline=None, max_examples=100)
@given(SETTINGS)
@example([("seed", 1)])
@example([("rule.initial", {"pre": -0.5, "weight": 1e-18})])
@example([("tasks.kind", "tabular"), ("circuit.output", "softmax"), ("tasks.dataset", "wine"), ("tasks.ways", 3)])
def test_an_experiment_is_read_as_it_was_written_or_refused(pairs):
    experiment = read(pairs)
    if experiment is not None:
        assert decode(tomllib.loads(msgspec.toml.encode(to_tree(experiment)).decode()), Experiment) == experiment


@pytest.mark.parametrize(("pairs", "accepted"), [([("seed", 1)], True), ([("seed", -1)], False)])
def test_some_are_accepted_and_some_are_not(pairs, accepted):
    assert (read(pairs) is not None) == accepted


@settings(deadline=None, max_examples=200)
@given(st.lists(st.sampled_from([f"--{field}" for field in FIELDS]) | st.text(max_size=30), max_size=4))
@example(["--seed", "[" * 5000])
@example(["--seed", "0x" + "f" * 5000])
@example(["--" + "a." * 500, "1"])
def test_any_command_line_is_read_or_refused(words):
    try:
        pairs = parse_overrides(words)
    except ConfigError as error:
        assert "\n" not in str(error)
    else:
        read(pairs)


NUMBERS = st.sampled_from(["0.5", "2", "10", "0.125", "7"])
FACTORS = st.builds(lambda name, power: name + power, st.sampled_from(VARIABLES), st.sampled_from(["", "^2", "^3"]))
MONOMIALS = st.lists(FACTORS | NUMBERS, min_size=1, max_size=3).map("*".join)
TERMS = st.lists(MONOMIALS, min_size=1, max_size=4).map(" - ".join)
PIECES = st.sampled_from([*VARIABLES, "*", "+", "-", "^", "1", "9" * 50, " ", "²", "taylor(", ";", "e", "\x00", "٣"])


@settings(deadline=None, max_examples=300)
@given(st.text(max_size=60) | st.lists(PIECES, max_size=12).map("".join))
def test_any_text_is_a_term_or_a_value_error(text):
    try:
        term = parse(text)
    except ValueError as error:
        assert str(error)
    else:
        assert term


def spelt(shown):
    """A term as it is shown, in the language in which it is read."""
    plain = shown.translate(str.maketrans("·−", "*-"))
    return re.sub(r"[²³⁴⁵⁶⁷⁸⁹]", lambda found: f"^{'⁰¹²³⁴⁵⁶⁷⁸⁹'.index(found[0])}", plain)


@settings(deadline=None, max_examples=200)
@given(TERMS)
def test_a_term_that_is_shown_is_the_same_term(text):
    try:
        term = parse(text)
    except ValueError as error:
        assert re.search("zero sharded_jit|power", str(error))
        return
    again = parse(spelt(show(term)))
    assert [one.powers for one in again] == [one.powers for one in term]
    assert [one.scale for one in again] == pytest.approx([one.scale for one in term], rel=1e-5)
