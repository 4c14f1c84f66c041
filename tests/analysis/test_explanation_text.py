"""Sentences and tables of an explanation, from numbers by hand."""

import pytest

from metarule.analysis.explanation_text import explanation_tables, percent_text, sentences


def row(mean, margin=0.01):
    return {"mean": mean, "low": mean - margin, "high": mean + margin}


def part(**fields):
    usual = {"part": "all synapses", "is_whole": True, "deviation": 0.02, "beyond": 0.0, "shares": None}
    usual |= {"cosines": {"delta": row(0.93), "hebb": row(0.41)}, "mixture": {"cosine": 0.93, "coefficients": {}}}
    return usual | fields


def report(*parts, contributions=None):
    of = {"of": "held-out tasks", "lifetimes": 8}
    return of | {"parts": parts or (part(),), "contributions": contributions}


def test_the_nearest_rule_and_the_next():
    text = "All synapses: Δw is closest to that of the rule delta (cosine 0.93 ± 0.01; next: hebb, 0.41 ± 0.01)."
    assert sentences(report()) == [text]


def test_rules_that_are_not_clearly_farther_are_named():
    close = part(cosines={"delta": row(0.93, 0.02), "three_factor": row(0.9, 0.02), "hebb": row(0.1)})
    assert sentences(report(close))[0].endswith(
        "delta (cosine 0.93 ± 0.02). Not clearly farther: three_factor (0.90 ± 0.02)."
    )


def test_no_rule_is_called_close_that_is_not():
    far = part(cosines={"delta": row(0.3)})
    assert sentences(report(far)) == [
        "All synapses: Δw is close to that of no rule by name (highest cosine: delta, 0.30 ± 0.01)."
    ]
    assert "Δw is 0, or there is no rule by name" in sentences(report(part(cosines={}, mixture=None)))[0]


def test_a_closer_sum_of_rules_is_named():
    mixture = {"cosine": 0.97, "coefficients": {"hebb": 0.02, "delta": 0.2}}
    assert (
        "The closest sum of such rules, 0.2·delta + 0.02·hebb, has cosine 0.97."
        in sentences(report(part(mixture=mixture)))[0]
    )


def test_shares_and_the_bound():
    shares = {"pre*modulator": row(1.1), "post^2*weight": row(-0.14), "pre": row(0.03), "1": row(0.01)}
    lines = sentences(report(part(shares=shares, beyond=0.1)))
    assert lines[1] == (
        "All synapses: of the variance of Δw, 110 ± 1 % from pre·modulator, −14 ± 1 % from post²·weight "
        "and 3 ± 1 % from pre; 1 % from 1 other term."
    )
    assert lines[2] == "A negative share means that the term counteracts the others."
    assert lines[3].endswith("10 % (all synapses).")


def test_effects_that_are_clear_and_those_that_are_not():
    terms = [
        {"term": "projection 2: pre*modulator", "difference": row(0.3)},
        {"term": "pre", "difference": row(0.005)},
        {"term": "1", "difference": {"mean": 0.0, "low": None, "high": None}},
        {"term": "weight", "difference": row(-0.2)},
    ]
    found = sentences(report(contributions={"metric": "solved", "of": "held-out tasks", "terms": terms}))[1:]
    score = "On held-out tasks, the score (solved, with 95 % intervals)"
    assert found == [
        f"{score} falls by 0.300 [0.290, 0.310] without pre·modulator (projection 2).",
        f"{score} rises by 0.200 [0.190, 0.210] without weight.",
        "Leaving out one of these terms alone has no measurable effect on the score: pre, 1.",
        "These intervals are not corrected for the 4 terms: about one in twenty misses by chance.",
    ]


def test_tables_have_a_column_for_each_part():
    shares = {f"pre^{power}": row(power / 105) for power in range(1, 15)}
    lines = explanation_tables(report(part(shares=shares), part(part="projection 1", is_whole=False))).splitlines()
    assert lines[2].split() == ["share", "of", "the", "variance", "of", "Δw", "all", "synapses", "projection", "1"]
    assert lines[3].split() == ["pre¹⁴", "0.133", "±", "0.010", "–"]
    assert "(the 12 largest of 14 terms; shares add up to 1 and may be negative)" in lines
    many = explanation_tables(report(*(part(part=f"projection {number}") for number in range(8))))
    assert many.endswith("(2 further parts in summary.json)")


@pytest.mark.parametrize(("share", "text"), [(0.876, "88 %"), (-0.24, "−24 %"), (-0.001, "0 %")])
def test_percent(share, text):
    assert percent_text(share) == text
