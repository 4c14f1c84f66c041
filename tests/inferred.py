"""A made-up report of an inferred rule."""

import numpy as np

from metarule import Polynomial


def difference(mean):
    return {"mean": mean, "low": 0.8 * mean - 0.2, "high": 1.2 * mean + 0.2}


def model(likelihood, parameters, mean=None, **shares):
    criteria = {"aic": 2 * parameters - 2 * likelihood, "bic": 5 * parameters - 2 * likelihood}
    own = {"log_likelihood": likelihood, "parameters": parameters, "difference": mean and difference(mean)}
    return own | criteria | shares


def inferred(variables="pre, post, weight", selected=(), **changes):
    """Report of Oja's rule with a rate of 0.02, inferred from activity among the products of powers up to 2."""
    names = Polynomial(terms=(f"taylor({variables}; 2)",)).names
    estimates = dict.fromkeys(selected or names, 0.00002) | {"pre*post": 0.02, "post^2*weight": -0.0199}
    coefficients = {
        term: {"estimate": value, "low": value - 1e-4, "high": value + 1e-4, "scale": 0.02}
        | {"bootstrap": None, "profile": None}
        for term, value in estimates.items()
    }
    report = {
        "animals": {"fitted": 20, "held_out": 5},
        "observations": {"activity": 3000, "weights": 0, "choices": 0},
        "coefficients": coefficients,
        "selected": list(selected),
        "terms": len(names),
        "rule": "polynomial",
        "equation": "Δw = 0.02·pre·post − 0.0199·post²·weight",
        "noise": {"activity": 0.1, "weights": None},
        "r2": {"activity": 0.9931, "weights": None},
        "deviance_explained": None,
        "held_out": "held-out animals",
        "models": {
            "null": model(-830.1, 0, 104.0, r2={"activity": 0.1}),
            "inferred rule": model(-310.2, 2, r2={"activity": 0.9931}),
            "oja": model(-310.9, 1, 0.14, r2={"activity": 0.9930}),
        },
        "selection": [],
        "identified": {
            "directions": len(names),
            "of": len(names),
            "loose": [],
            "verdict": "identified",
            "spectrum": np.geomspace(1e-4, 0.05, len(names)).tolist(),
        },
        "initial_weights": "known",
        "unknowns": {},
        "warnings": [],
    }
    return report | changes


def unidentified():
    """Report in which 9 of 27 directions are determined, one coefficient is unbounded and no animal is held out."""
    report = inferred(animals={"fitted": 20, "held_out": 0}, held_out="animals that were fitted")
    report["coefficients"]["pre"] |= {"estimate": -541.0, "low": None, "high": None, "bootstrap": [-3.0, 900.0]}
    spectrum = [*np.geomspace(1e-3, 0.05, 9), *np.geomspace(0.2, 90, 17), None]
    loose = ["pre*post - pre*post^2*weight", " + ".join(["0.5·pre·post²"] * 20), *["post² − 0.5·weight"] * 16]
    identified = {"directions": 9, "of": 27, "loose": loose, "verdict": "not identified", "spectrum": spectrum}
    return report | {"identified": identified, "warnings": ["pre: the interval is wider than the estimate"]}
