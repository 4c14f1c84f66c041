"""Equations of rules as MathML."""

import re
from collections.abc import Iterator

from markupsafe import Markup, escape

__all__ = ["typeset_equation"]

_POWERS, _INDICES = "⁰¹²³⁴⁵⁶⁷⁸⁹", "₀₁₂₃₄₅₆₇₈₉"
_POWER_DIGITS = str.maketrans(_POWERS, "0123456789")
_INDEX_DIGITS = str.maketrans(_INDICES, "0123456789")
_GREEK = {"alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "epsilon": "ε", "zeta": "ζ", "eta": "η", "theta": "θ"}
_GREEK |= {"kappa": "κ", "lambda": "λ", "mu": "μ", "nu": "ν", "rho": "ρ", "sigma": "σ", "tau": "τ", "phi": "φ"}
_GREEK |= {"chi": "χ", "psi": "ψ", "omega": "ω"}
_TOKEN = re.compile(
    rf"""\s*(?:
    (?P<change>Δw)(?:\[(?P<path>[^\]]*)\]|(?P<number>[{_INDICES}]+))?
    | (?P<mantissa>\d+(?:\.\d+)?)(?:e(?P<exponent>[+-]?\d+))?
    | (?P<name>(?!\d)[^\W{_POWERS}{_INDICES}]+)
    | (?P<other>\S)
    )(?P<power>[{_POWERS}]*)""",
    re.VERBOSE,
)
# A sum is broken into its terms here, outside of brackets, so that a narrow page can wrap it.
_BREAK = re.compile(r" (?=[+−] )")
# Traces follow the change of the weight.
_TRACE = re.compile(r", (?=[^\W\d]\w* ← )")


def typeset_equation(text: str) -> tuple[Markup, ...]:
    """Typeset the equation of a rule, as `Lifetime.equation` formats it.

    Args:
        text: one equation a line, each with the updates of its traces: `Δw = 0.5·pre·trace, trace ← 0.9·trace + …`.

    Returns:
        HTML of each equation and each trace, in which every term of a sum is a MathML element of its own.
    """
    return tuple(_statement(part) for line in text.splitlines() for part in _TRACE.split(line))


def _statement(text: str) -> Markup:
    pieces = Markup(" ").join(Markup("<math>{}</math>").format(_row(piece)) for piece in _pieces(text))
    return Markup('<div class="equation" role="math" aria-label="{}">{}</div>').format(text, pieces)


def _pieces(text: str) -> Iterator[str]:
    """Terms of a sum, with their signs; brackets are left whole."""
    start = depth = 0
    for number, one in enumerate(text):
        depth += (one in "([") - (one in ")]")
        if depth == 0 and _BREAK.match(text, number):
            yield text[start:number]
            start = number + 1
    yield text[start:]


def _row(text: str) -> Markup:
    # A sign at the start of a piece joins it to the one before, and is no sign of a number.
    sign = Markup('<mo form="infix">{}</mo>').format(text[0]) if text[:2] in ("+ ", "− ") else Markup("")
    rest = text[2:] if sign else text
    return Markup("<mrow>{}{}</mrow>").format(sign, Markup("").join(map(_element, _TOKEN.finditer(rest))))


def _element(token: re.Match[str]) -> Markup:
    if token["change"]:
        body = Markup("<mrow><mi mathvariant='normal'>Δ</mi><mi>w</mi></mrow>")
        index = token["path"] or (token["number"] or "").translate(_INDEX_DIGITS)
        body = Markup("<msub>{}<mtext>{}</mtext></msub>").format(body, index) if index else body
    elif token["mantissa"]:
        body = Markup("<mn>{}</mn>").format(token["mantissa"])
        if token["exponent"]:
            ten = Markup("<mo>·</mo><msup><mn>10</mn><mn>{}</mn></msup>")
            body += ten.format(str(int(token["exponent"])).replace("-", "−"))
    elif token["name"]:
        body = _name(token["name"])
    else:
        body = Markup("<mo>{}</mo>").format(token["other"])
    power = token["power"].translate(_POWER_DIGITS)
    return Markup("<msup>{}<mn>{}</mn></msup>").format(body, power) if power else body


def _name(name: str) -> Markup:
    """A variable: Greek where it is spelt so, and with an index after the underscore."""
    stem, _, index = name.partition("_")
    if not stem or not index:
        stem, index = name, ""
    symbol = _GREEK.get(stem, stem)
    kind = "" if len(symbol) == 1 else Markup(" mathvariant='normal'")
    body = Markup("<mi{}>{}</mi>").format(kind, symbol)
    return Markup("<msub>{}<mtext>{}</mtext></msub>").format(body, escape(index)) if index else body
