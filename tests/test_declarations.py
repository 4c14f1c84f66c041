"""Python refuses the values that a config file may not have: for every declaration, by its schema."""

import importlib
import math
import pkgutil
from pathlib import Path

import jax
import msgspec
import numpy as np
import pytest
from msgspec import inspect
from msgspec.structs import replace

import metarule
from metarule import Boolean, Connection, Feedforward, Gradient, InnerLoop, Polynomial, Rollback, Tabular, Trace
from metarule.circuits.conditioning import APLYSIA
from metarule.config.schema import Checked
from metarule.config.toml import ConfigError, decode
from metarule.recordings import Recordings
from metarule.runs.experiment import Experiment
from metarule.sweeps.declaration import Case, Sweep
from metarule.tasks.phenomena import STANDARD

for module in pkgutil.walk_packages(metarule.__path__, "metarule."):
    importlib.import_module(module.name)
PHENOMENON = STANDARD[0]
# Examples of declarations that have fields without a default.
EXAMPLES = {
    type(one): one
    for one in (
        Trace(of="pre"),
        APLYSIA[0],
        metarule.Schedule(name="constant_schedule"),
        PHENOMENON,
        PHENOMENON.animal,
        PHENOMENON.animal.phases[0],
        Case(name="one"),
        Sweep(config="configs/boolean.toml"),
        metarule.Mixture(families=(Boolean(inputs=2), metarule.Points())),
        Recordings(files=str(Path(__file__).parent / "fixtures/animal.csv")),
    )
}


def declarations(base=Checked):
    for one in base.__subclasses__():
        yield one
        yield from declarations(one)


def outside(node):
    """Values that a type does not allow."""
    if isinstance(node, inspect.Metadata):
        yield from outside(node.type)
    elif isinstance(node, inspect.UnionType):
        allowed = {type(one) for one in node.types}
        if inspect.StrType not in allowed:
            yield "unknown"
        bounded = [one for one in node.types if isinstance(one, inspect.IntType | inspect.FloatType)]
        yield from (value for one in bounded for value in beyond(one))
    elif isinstance(node, inspect.LiteralType):
        yield "unknown"
    elif isinstance(node, inspect.VarTupleType):
        yield True  # a single text is an array of one
        yield from ([value] for value in outside(node.item_type))
    elif isinstance(node, inspect.IntType | inspect.FloatType):
        yield "text"
        yield from beyond(node)
    elif not isinstance(node, inspect.AnyType):
        yield 3 if not isinstance(node, inspect.BoolType) else "no"


def beyond(node):
    step = 1 if isinstance(node, inspect.IntType) else 0.5
    for bound, value in ((node.ge, -step), (node.gt, 0), (node.le, step), (node.lt, 0)):
        if bound is not None:
            yield bound + value
    if isinstance(node, inspect.FloatType):
        yield math.nan


CASES = [
    pytest.param(declaration, field, value, id=f"{declaration.__module__}.{declaration.__name__}.{field}={value}")
    for declaration in sorted(
        {one for one in declarations() if one.__module__.startswith("metarule.")},
        key=lambda one: (one.__module__, one.__name__),
    )
    for field, value in (
        (field.name, value) for field in inspect.type_info(declaration).fields for value in outside(field.type)
    )
]


@pytest.mark.parametrize(("declaration", "field", "value"), CASES)
def test_a_value_that_the_schema_does_not_allow_is_refused_as_in_a_config_file(declaration, field, value):
    example = EXAMPLES.get(declaration) or declaration()
    with pytest.raises(ConfigError) as from_file:
        decode(msgspec.to_builtins(example, enc_hook=dict) | {field: value}, declaration)
    with pytest.raises(ValueError, match=f"^{field}.* = ") as from_python:
        replace(example, **{field: value})
    assert str(from_python.value) == str(from_file.value)


def test_every_declaration_is_checked():
    tables = {node.cls for node in tables_of(inspect.type_info(Experiment))}
    assert len(tables) > 30
    assert [one for one in tables if not issubclass(one, Checked)] == []


def tables_of(node):
    """Every table that a config file may have."""
    if isinstance(node, inspect.StructType):
        yield node
        for field in node.fields:
            yield from tables_of(field.type)
    for name in ("type", "item_type", "value_type"):
        if hasattr(node, name):
            yield from tables_of(getattr(node, name))
    for one in getattr(node, "types", ()):
        yield from tables_of(one)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Boolean(functions="seperable"),
            "functions = 'seperable': allowed: all, not_separable, parity, separable",
        ),
        (lambda: Tabular(scaling="standardized"), "scaling = 'standardized': allowed: range, standardised"),
        (lambda: InnerLoop(weight_bound=-1), "weight_bound = -1: expected `float` > 0.0"),
        (lambda: InnerLoop(weight_bound=math.nan), "weight_bound = nan: expected a finite number"),
        (lambda: InnerLoop(weight_bound=-math.inf), "weight_bound = -inf: expected a finite number"),
        (lambda: Gradient(learning_rate=-1), "learning_rate = -1: expected `float` > 0.0"),
        (lambda: Gradient(learning_rate=np.float32(-1)), "learning_rate = -1.0: expected `float` > 0.0"),
        (lambda: Gradient(learning_rate=math.inf), "learning_rate = inf: expected a finite number"),
        (lambda: Gradient(steps=2**70), "steps = 0x400000000000000000: expected a number of 64 bits"),
        (lambda: Feedforward(feedback="rnd"), "feedback = 'rnd': allowed: learned, random, transpose, zero"),
        (lambda: Feedforward(hidden="ab"), "hidden = 'ab': expected an array, got `str`"),
        (lambda: Polynomial(initial={"pre": 1e19}), "initial.pre = 1e.19: expected a number of at most 1e.18 in size"),
        (lambda: Experiment(circuit=Boolean()), r"circuit = Boolean\(.*: expected Feedforward or Recurrent or Cond"),
        (lambda: Experiment(tasks=object()), "tasks = <object .*: expected Boolean or"),
    ],
)
def test_python_refuses_with_the_message_of_the_command_line(make, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        make()


def test_other_forms_of_a_value_are_converted_as_in_a_config_file():
    assert hash(Feedforward(hidden=[3])) == hash(Feedforward(hidden=(3,)))
    assert Connection(pre="US", post="motor", weight=[0, 1]).weight_range == (0.0, 1.0)
    assert hash(Polynomial(initial={"pre": np.float32(0.5)})) == hash(Polynomial(initial={"pre": 0.5}))
    assert Gradient(estimator={"kind": "truncated"}) == Gradient(estimator=metarule.Truncated())


@pytest.mark.parametrize("make", [lambda: InnerLoop(weight_bound=math.inf), lambda: Rollback(jump=math.inf)])
def test_some_fields_may_be_infinite_in_python(make):
    assert math.inf in msgspec.structs.astuple(make())


def test_a_traced_number_is_not_checked():
    def traced(number):
        declared = (
            InnerLoop(weight_bound=number),
            Gradient(learning_rate=number, arguments={"b1": 0.8, "weight_decay": number}, name="adamw"),
            Polynomial(initial={"pre": number, "weight": 1}),
        )
        assert declared[0].weight_bound is declared[1].learning_rate is declared[1].arguments["weight_decay"] is number
        assert list(declared[2].initial.items()) == [("pre", number), ("weight", 1)]
        return number

    jax.eval_shape(traced, jax.ShapeDtypeStruct((), "float32"))
    with pytest.raises(ValueError, match="functions = .*: expected `str`"):
        Boolean(functions=jax.numpy.float32(1))


def test_a_repr_leaves_out_what_is_default():
    assert repr(Gradient(lengths=(1.0,), arguments={}, rollback=Rollback())) == "Gradient()"
    assert repr(InnerLoop(steps=7)) == "InnerLoop(steps=7)"
