"""Equations as MathML."""

from xml.etree import ElementTree

import jax

from metarule import MLP, Polynomial, Trace
from metarule.reports.mathml import typeset_equation


def parsed(text):
    """Equations as (description, text of each piece), parsed as XML."""
    elements = [ElementTree.fromstring(str(one)) for one in typeset_equation(text)]
    return [(one.get("aria-label"), ["".join(piece.itertext()) for piece in one.iter("math")]) for one in elements]


def test_each_term_is_a_piece_with_its_sign():
    text = "Δw = 0.5·pre·modulator − 0.02·post²·weight + 1.5·(pre·post − weight)"
    ((label, pieces),) = parsed(text)
    assert label == text
    assert pieces == ["Δw=0.5·pre·modulator", "−0.02·post2·weight", "+1.5·(pre·post−weight)"]


def test_powers_indices_greek_letters_and_powers_of_ten():
    (html,) = typeset_equation("Δw₁₂ = −1e-05·theta_m²·alpha")
    assert "<msub><mrow><mi mathvariant='normal'>Δ</mi><mi>w</mi></mrow><mtext>12</mtext></msub>" in html
    assert "<msup><mn>10</mn><mn>−5</mn></msup>" in html
    assert "<msup><msub><mi>θ</mi><mtext>m</mtext></msub><mn>2</mn></msup>" in html
    assert "<mi>α</mi>" in html


def test_every_theta_and_every_trace_has_a_line():
    text = "Δw[input → hidden] = 0.1·fast, fast ← 0.9·fast + 0.1·pre·post\nΔw[recurrent] = 0"
    assert [pieces for _, pieces in parsed(text)] == [
        ["Δwinput → hidden=0.1·fast"],
        ["fast←0.9·fast", "+0.1·pre·post"],
        ["Δwrecurrent=0"],
    ]


def test_rules_of_the_package():
    traced = Polynomial(terms=("trace_1*modulator",), traces={"trace_1": Trace(of="pre*post^2")}, initial_spread=1.0)
    for rule in (traced, MLP(hidden=(3,))):
        equation = rule.equation(rule.init(jax.random.key(1)))
        assert "".join("".join(pieces) for _, pieces in parsed(equation)).count("Δw") == 1
        assert ", ".join(label for label, _ in parsed(equation)) == equation


def test_text_is_escaped():
    (html,) = typeset_equation("Δw = <script>('x')·pre")
    assert "<script" not in html
    assert parsed("Δw = <b>·pre")[0][0] == "Δw = <b>·pre"
