import pytest
from inferred import inferred, model, unidentified

from metarule.runs.inference_tables import inference_table, largest_first, likeliest_first

SELECTED = ("pre*post", "post^2*weight")


def rows(text, head):
    """Words of the lines after a head, up to an empty line, by their first word."""
    lines = text.split(head)[1].split("\n\n")[0].splitlines()[1:]
    return {line.split()[0]: line.split()[1:] for line in lines}


def test_coefficients_have_two_digits_of_their_uncertainty():
    table = rows(inference_table(inferred()), "coefficient")
    assert table["pre·post"] == ["0.02000", "0.01990", "to", "0.02010", "outside"]
    assert table["post²·weight"] == ["-0.01990", "-0.02000", "to", "-0.01980", "outside"]
    assert table["weight²"] == ["0.00002", "-0.00008", "to", "0.00012", "inside"]
    assert list(table)[:2] == ["pre·post", "post²·weight"]


@pytest.mark.parametrize(
    ("ends", "words"),
    [
        ((None, None), ["12.3", "-∞", "to", "∞", "inside"]),
        ((12.3456, 12.3456), ["12.345600", "12.345600", "to", "12.345600", "outside"]),
        ((-30.0, 55.0), ["12", "-30", "to", "55", "inside"]),
        ((1e-6, 3e-6), ["1.23e+01", "1.00e-06", "to", "3.00e-06", "outside"]),
    ],
)
def test_intervals_of_every_size(ends, words):
    report = inferred()
    report["coefficients"]["pre"] |= {"estimate": 12.3456, "low": ends[0], "high": ends[1]}
    assert rows(inference_table(report), "coefficient")["pre"] == words


def test_further_intervals_have_columns_where_any_coefficient_has_them():
    report = inferred(selected=SELECTED)
    report["coefficients"]["pre*post"] |= {"bootstrap": [0.0198, 0.0203], "profile": [None, 0.0202]}
    text = inference_table(report)
    assert "bootstrap interval" in text
    table = rows(text, "coefficient")
    assert table["pre·post"][4:-1] == ["0.01980", "to", "0.02030", "-∞", "to", "0.02020"]
    assert table["post²·weight"][4:-1] == ["–", "–"]


def test_terms_that_were_not_selected_are_counted():
    text = inference_table(inferred("pre, post, weight, neuromodulator", SELECTED))
    assert list(rows(text, "coefficient")) == ["pre·post", "post²·weight", "…", "(unit:"]
    assert "  … 79 terms left out\n" in text
    assert "smaller" not in text


def test_of_many_terms_the_largest_are_printed():
    text = inference_table(inferred("pre, post, weight, neuromodulator"))
    assert "  … 51 smaller coefficients in the summary\n" in text
    assert "left out" not in text


def test_models_are_sorted_by_their_log_likelihood():
    report = inferred()
    report["models"] |= {"diverged": model(float("nan"), 3, 1.0), "none": model(-1.0, 3) | {"log_likelihood": None}}
    table = rows(inference_table(report), "Models on held-out animals (5):")
    assert list(table)[:6] == ["model", "inferred", "oja", "null", "diverged", "none"]
    assert table["oja"] == ["1", "-310.9", "+0.14", "[-0.09,", "+0.37]", "623.8", "626.8", "0.9930"]
    assert table["null"][2:5] == ["+104.0", "[+83.0,", "+125.0]"]
    assert table["diverged"][1] == table["none"][1] == "–"
    assert next(iter(likeliest_first(report["models"]))) == "inferred rule"


def test_choices_have_their_deviance_and_no_r2():
    observed, noise = {"activity": 0, "weights": 0, "choices": 6000}, {"activity": None, "weights": None}
    models = {"inferred rule": model(-310.2, 1, deviance_explained=0.7), "null": model(-830.0, 0, 104.0)}
    report = inferred(observations=observed, noise=noise, r2={}, deviance_explained=0.7, models=models)
    text = inference_table(report)
    assert "observed values: 6,000 of choices\non held-out animals: 70.0 % of the deviance of choices explained" in text
    assert "noise" not in text
    assert "R²" not in text
    assert rows(text, "Models")["null"][-1] == "–"


def test_the_verdict_names_loose_directions():
    assert "Identified: 27 of 27 directions of θ are determined to 0.1 of their scale." in inference_table(inferred())
    text = inference_table(unidentified())
    for line in (
        "NOT IDENTIFIED: only 9 of 27 directions of θ are determined to 0.1 of their scale.",
        "  pre·post − pre·post²·weight",
        "  … 13 more",
        "A high R² does not show that the rule is right.",
        "warning: pre: the interval is wider than the estimate",
        "(no animal was held out, which favours models with more parameters)",
    ):
        assert line in text.splitlines()


def test_selection_and_recovery():
    step = {"step": "added", "term": "post^2*weight", "log_likelihood": -1400.0, "held_out": None}
    recovery = {"repetitions": 20, "coverage": 0.95, "terms": {"pre*post": {"bias": 0.0012, "coverage": 1.0}}}
    text = inference_table(inferred(selected=SELECTED, selection=[step] * 14, recovery=recovery))
    assert text.count("  added post²·weight") == 12
    assert "  … 2 further steps in the summary" in text
    assert "95 % intervals contain 95.0 % of its coefficients." in text
    assert rows(text, "Recovery")["pre·post"] == ["+0.0012", "100", "%"]


def test_a_rule_without_coefficients_has_its_readback():
    report = inferred(coefficients={}, selected=[], readback={"equation": "Δw = 0.02·pre", "r2": 0.98}, rule="mlp")
    del report["identified"]
    text = inference_table(report)
    assert "as a polynomial (R² 0.9800): Δw = 0.02·pre" in text
    assert "dentified" not in text
    assert "coefficient" not in text


def test_tables_are_narrow_enough_to_read():
    for report in (inferred(), unidentified(), inferred("pre, post, weight, neuromodulator", SELECTED)):
        assert max(map(len, inference_table(report).splitlines())) <= 100


def test_selected_terms_come_first():
    report = inferred()
    report["coefficients"]["pre"]["estimate"] = 7.0
    assert largest_first(report)[0] == "pre"
    assert largest_first(report | {"selected": list(SELECTED)})[:3] == [*SELECTED, "pre"]


def test_what_is_fitted_with_the_rule_is_printed():
    unknowns = {"readout": {"offset": -1.25, "gains": [2.0, 0.51]}, "reward_decay": 0.875}
    text = inference_table(inferred(unknowns=unknowns))
    assert "\nreadout: offset -1.25, gains 2, 0.51\ndecay of the average reward: 0.875\n" in text


def test_rules_of_several_projections_have_a_line_each():
    text = inference_table(inferred(equation="Δw₁ = 2·pre\nΔw₂ = 3·post"))
    assert text.strip().splitlines()[:2] == ["Δw₁ = 2·pre", "Δw₂ = 3·post"]
