"""Tables of an inferred rule for the screen: coefficients, models, identifiability and recovery."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from metarule.analysis.comparison import count_text
from metarule.analysis.statistics import NO_INTERVAL, interval_text
from metarule.rules.terms import typeset

__all__ = ["LOOSE", "evaluation_table", "inference_table", "largest_first", "likeliest_first"]

# Standard deviation, in units of the scale, up to which a direction of θ is determined.
LOOSE = 0.1
# Explained shares below this are not written in full.
_FAR_BELOW = -10.0
_WIDTH = 100
# Rows of a table, steps of the selection and loose directions on the screen; a summary has all of them.
_ROWS, _STEPS, _DIRECTIONS = 30, 12, 5
# Added to a logarithm, so that 9.9999 counts as 10.
_ROUNDING = 1e-4
_VERDICTS = {"identified": "Identified:", "partly": "PARTLY IDENTIFIED:", "not identified": "NOT IDENTIFIED: only"}
_INTERVALS = {"bootstrap": "bootstrap interval", "profile": "profile interval"}


def inference_table(report: Mapping[str, Any]) -> str:
    """Format the part `inference` of a summary: equation, coefficients, models, identifiability and recovery."""
    terms = _shown(report)
    parts = (
        _heading(report),
        _coefficients(report, terms),
        _selection(report["selection"]),
        _models(report),
        _verdict(report.get("identified")),
        _recovery(report.get("recovery"), terms),
        [line for warning in report["warnings"] for line in _wrapped(f"warning: {warning}")],
    )
    return "\n\n".join("\n".join(part) for part in parts if part)


def largest_first(report: Mapping[str, Any]) -> list[str]:
    """Terms of the part `inference` of a summary: the selected ones first, each group by size of the estimate."""
    rows, selected = report["coefficients"], set(report["selected"])
    return sorted(rows, key=lambda term: (term not in selected, -abs(rows[term]["estimate"])))


def likeliest_first(models: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Models by held-out log-likelihood, the highest first and those without a finite one last."""
    likelihoods = {name: row["log_likelihood"] for name, row in models.items()}
    unknown = {name for name, value in likelihoods.items() if value is None or math.isnan(value)}
    order = sorted(models, key=lambda name: math.inf if name in unknown else -likelihoods[name])
    return {name: models[name] for name in order}


def _shown(report: Mapping[str, Any]) -> list[str]:
    """Terms of the table: the selected ones, or all where none was selected."""
    selected = set(report["selected"]) or report["coefficients"]
    return [term for term in largest_first(report) if term in selected][:_ROWS]


def _unknowns(fitted: Mapping[str, Any]) -> list[str]:
    """What was fitted with θ for all animals."""
    lines = list[str]()
    if readout := fitted.get("readout"):
        gains = ", ".join(f"{gain:.3g}" for gain in readout["gains"])
        lines.append(
            f"readout: offset {readout['offset']:.3g}, {'gain' if len(readout['gains']) == 1 else 'gains'} {gains}"
        )
    if (decay := fitted.get("reward_decay")) is not None:
        lines.append(f"decay of the average reward: {decay:.3g}")
    return lines


def _heading(report: Mapping[str, Any]) -> list[str]:
    animals, measures = report["animals"], _measures(report)
    observed = [f"{count:,} of {what}" for what, count in report["observations"].items() if count]
    noise = [f"{sd:.3g} of {what}" for what, sd in report["noise"].items() if sd is not None]
    lines = [report["equation"]]
    if readback := report.get("readback"):
        lines.append(f"as a polynomial (R² {readback['r2']:.4f}): {readback['equation']}")
    lines.append(f"{count_text(animals['fitted'], 'animals')} fitted, {animals['held_out']} held out")
    lines[-1] += f"; initial weights: {report['initial_weights']}"
    lines.append(f"observed values: {', '.join(observed)}")
    lines += [f"standard deviation of the noise: {', '.join(noise)}"] if noise else []
    lines += _unknowns(report["unknowns"])
    lines += [f"on {report['held_out']}: {', '.join(measures)}"] if measures else []
    # The equations of several projections are lines of their own.
    return [wrapped for line in lines for one in line.splitlines() for wrapped in _wrapped(one)]


def _measures(report: Mapping[str, Any]) -> list[str]:
    """Texts of R² and deviance, of what was recorded."""
    r2, deviance = report.get("r2") or {}, report.get("deviance_explained")
    texts = [f"R² of {what} {value:.4f}" for what, value in r2.items() if value is not None]
    return texts + ([] if deviance is None else [f"{_number(deviance, '.1%')} of the deviance of choices explained"])


def _coefficients(report: Mapping[str, Any], terms: Sequence[str]) -> list[str]:
    rows, selected = report["coefficients"], report["selected"]
    if not rows:
        return []
    others = [name for name in _INTERVALS if any(rows[term].get(name) for term in terms)]
    head = ["coefficient", "estimate", "95 % interval", *(_INTERVALS[name] for name in others), "0 is"]
    lines = _table(head, [_coefficient(term, rows[term], others) for term in terms])
    if smaller := len(selected or rows) - len(terms):
        lines.append(f"  … {count_text(smaller, 'smaller coefficients')} in the summary")
    if selected and (left_out := report["terms"] - len(selected)):
        lines.append(f"  … {count_text(left_out, 'terms')} left out")
    return [*lines, "(unit: Δw per unit of the term; 95 % intervals by Laplace's approximation)"]


def _coefficient(term: str, row: Mapping[str, Any], others: Sequence[str]) -> list[str]:
    """Texts of a coefficient, with two digits of its uncertainty."""
    laplace = row["low"], row["high"]
    form, (low, high) = _form(*laplace), _infinite(laplace)
    texts = [_ends(ends, form) if ends else NO_INTERVAL for ends in (laplace, *(row.get(name) for name in others))]
    return [typeset(term), f"{row['estimate']:{form}}", *texts, "inside" if low <= 0 <= high else "outside"]


def _selection(steps: Sequence[Mapping[str, Any]]) -> list[str]:
    if not steps:
        return []
    names = ("log_likelihood", "held_out")
    rows = [[f"{step['step']} {typeset(step['term'])}", *(_decimal(step[name]) for name in names)] for step in steps]
    lines = _table(["selection of terms", "log-likelihood, fitted", "held out"], rows[:_STEPS])
    more = len(rows) - _STEPS
    return lines + ([f"  … {count_text(more, 'further steps')} in the summary"] if more > 0 else [])


def evaluation_table(report: Mapping[str, Any], of: str) -> str:
    """Scores of a rule on animals, from `evaluate_animals`, beside fixed weights."""
    models = report["models"]
    shares = _shares(models)
    rows = []
    for number, (name, row) in enumerate(models.items()):
        texts = [name, _decimal(row["log_likelihood"]), _difference(row.get("difference"))]
        rows.append([*texts, *(column[number] for column in shares.values())])
    head = ["model", "log-lik.", "inferred − model", *shares]
    title = f"{of} ({len(report['animals'])}):"
    return "\n".join([title, *_table(head, rows), "(inferred − model: log-likelihood an animal, paired)"])


def _shares(models: Mapping[str, Mapping[str, Any]]) -> dict[str, list[str]]:
    """Columns of explained shares, without those that no model has."""
    shares = {
        f"R² {what}": [_share((row.get("r2") or {}).get(what), ".4f") for row in models.values()]
        for what in ("activity", "weights")
    }
    shares["deviance"] = [_share(row.get("deviance_explained"), ".1%") for row in models.values()]
    return {head: texts for head, texts in shares.items() if set(texts) != {NO_INTERVAL}}


def _models(report: Mapping[str, Any]) -> list[str]:
    animals, models = report["animals"], likeliest_first(report["models"])
    if not models:
        return []
    shares = _shares(models)
    head = ["model", "parameters", "log-lik.", "inferred − model", "AIC", "BIC", *shares]
    rows = []
    for number, (name, row) in enumerate(models.items()):
        decimals = [_decimal(row.get(criterion)) for criterion in ("aic", "bic")]
        texts = [name, str(row["parameters"]), _decimal(row["log_likelihood"]), _difference(row.get("difference"))]
        rows.append([*texts, *decimals, *(column[number] for column in shares.values())])
    title = f"Models on {report['held_out']} ({animals['held_out'] or animals['fitted']}):"
    notes = ["(inferred − model: log-likelihood an animal, paired; above 0 the inferred rule is better)"]
    if not animals["held_out"]:
        notes.append("(no animal was held out, which favours models with more parameters)")
    return [title, *_table(head, rows), *notes]


def _verdict(identified: Mapping[str, Any] | None) -> list[str]:
    if not identified:
        return []
    counts = f"{identified['directions']} of {identified['of']} directions of θ"
    lines = [f"{_VERDICTS[identified['verdict']]} {counts} are determined to {LOOSE:g} of their scale."]
    if loose := identified["loose"]:
        lines.append("Loose directions, along which θ may move and fit the recordings nearly as well:")
        lines += [f"  {textwrap.shorten(typeset(one), _WIDTH - 2, placeholder=' …')}" for one in loose[:_DIRECTIONS]]
        lines += [f"  … {len(loose) - _DIRECTIONS} more"] if len(loose) > _DIRECTIONS else []
    if identified["verdict"] != "identified":
        lines.append("A high R² does not show that the rule is right.")
    return lines


def _recovery(recovery: Mapping[str, Any] | None, terms: Sequence[str]) -> list[str]:
    if not recovery:
        return []
    title = f"Recovery: {count_text(recovery['repetitions'], 'simulations')} with the estimate, refitted; "
    lines = [f"{title}95 % intervals contain {_number(recovery['coverage'], '.1%')} of its coefficients."]
    rows = {term: recovery["terms"][term] for term in terms if term in recovery["terms"]}
    if not rows:
        return lines
    body = [[typeset(term), f"{row['bias']:+.2g}", _number(row["coverage"], ".0%")] for term, row in rows.items()]
    return [*lines, *_table(["coefficient", "bias", "coverage"], body)]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table: the first column to the left, the others to the right, as narrow as their texts."""
    indented = [list(head), *(["  " + row[0], *row[1:]] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*indented, strict=True)]
    return [
        "  ".join([row[0].ljust(widths[0]), *(text.rjust(width) for text, width in zip(row[1:], widths[1:]))])
        for row in indented
    ]


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)


def _infinite(ends: Sequence[float | None]) -> tuple[float, float]:
    """Ends of an interval, with those that are None at infinity."""
    low, high = ends
    return -math.inf if low is None else low, math.inf if high is None else high


def _ends(ends: Sequence[float | None], form: str) -> str:
    low, high = (f"{end:{form}}".replace("inf", "∞") for end in _infinite(ends))
    return f"{low} to {high}"


def _form(low: float | None, high: float | None) -> str:
    """Form of the numbers of an interval: two digits of its half, at most six decimals, powers of ten if tiny."""
    if low is None or high is None:
        return ".3g"
    if 0 < max(abs(low), abs(high)) < 1e-4:
        return ".2e"
    digits = 1 - math.floor(math.log10((high - low) / 2) + _ROUNDING) if high > low else 6
    return f"z.{min(max(digits, 0), 6)}f"


def _number(value: float | None, form: str) -> str:
    return NO_INTERVAL if value is None or math.isnan(value) else f"{value:{form}}".replace("%", " %")


def _share(value: float | None, form: str) -> str:
    """Share that is explained; networks that diverge may explain any number below 0."""
    return _number(value, form) if value is None or value > _FAR_BELOW else f"< {_number(_FAR_BELOW, form)}"


def _decimal(value: float | None) -> str:
    return _number(value, ".1f")


def _difference(difference: Mapping[str, Any] | None) -> str:
    if difference is None or difference["mean"] is None:
        return ""
    mean = difference["mean"]
    form = "+.1f" if abs(mean) >= 10 else "+.2f"
    ends = interval_text(difference["low"], difference["high"], form, ", ")
    return f"{mean:{form}}" if ends == NO_INTERVAL else f"{mean:{form}} [{ends}]"
