import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metarule.rules.terms import MAX_POWER, VARIABLES, parse, show, typeset


def powers(**by_name):
    return tuple(by_name.get(name, 0) for name in VARIABLES)


@pytest.mark.parametrize(
    ("text", "monomials"),
    [
        ("1", {powers(): 1}),
        ("pre", {powers(pre=1): 1}),
        ("pre*modulator", {powers(pre=1, modulator=1): 1}),
        ("post^2*weight", {powers(post=2, weight=1): 1}),
        ("pre*pre^2", {powers(pre=3): 1}),
        ("-0.5*pre + 2*weight", {powers(pre=1): -0.5, powers(weight=1): 2}),
        ("pre*post - post^2*weight", {powers(pre=1, post=1): 1, powers(post=2, weight=1): -1}),
        ("pre + pre", {powers(pre=1): 2}),
    ],
)
def test_terms_are_parsed(text, monomials):
    assert {monomial.powers: monomial.scale for monomial in parse(text)} == monomials


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty text"),
        ("   ", "empty"),
        ("prr*post", "'prr' is not a variable"),
        ("pre*", "'' is not a factor"),
        ("pre**2", "'' is not a factor"),
        ("pre^-1", "is not a factor"),
        ("pre^0", "power 0"),
        (f"pre^{MAX_POWER + 1}", f"power {MAX_POWER + 1}"),
        ("pre^99999", "is not a factor"),
        ("pre - pre", "zero for all values"),
        ("__import__('os')", "is not a factor"),
        ("pre.__class__", "is not a factor"),
        ("1e999", "is not a factor"),
    ],
)
def test_invalid_terms_are_refused(text, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        parse(text)


def test_order_and_spaces_do_not_matter():
    assert parse("pre * post-post^2*weight") == parse("-weight*post^2 + post*pre")


@pytest.mark.parametrize(
    ("text", "formatted"), [("1", "1"), ("pre*post - post^2*weight", "pre·post − post²·weight"), ("-2*pre", "−2·pre")]
)
def test_terms_are_formatted_as_in_papers(text, formatted):
    assert show(parse(text)) == formatted


def test_names_are_typeset_without_being_parsed():
    assert typeset("hidden 1: pre*post^2 - trace2^10") == "hidden 1: pre·post² − trace2¹⁰"
    assert typeset("2*trace*modulator*post^2*pre") == "2·pre·post²·modulator·trace"  # as in an equation


@settings(deadline=None)
@given(st.text(max_size=30))
def test_any_text_is_read_or_refused(text):
    try:
        assert parse(text)
    except ValueError as error:
        assert str(error)
