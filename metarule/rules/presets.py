"""Named rules and families of terms, as text in the term language.

A *rule* is a sum of monomials with one coefficient, and includes its traces. A *family* is a list of terms, each with
its own coefficient. Both names may be used in place of a term.
"""

from itertools import product

from metarule.rules.terms import Trace

__all__ = ["FAMILIES", "RULES", "TRACES"]

RULES: dict[str, str] = {
    "hebb": "pre*post",  # Hebb 1949
    "anti_hebb": "-pre*post",  # Földiák 1990
    "covariance": "pre*post - pre*mean_post - mean_pre*post + mean_pre*mean_post",  # Sejnowski 1977
    "oja": "pre*post - post^2*weight",  # Oja 1982, eq. 3
    "bcm": "pre*post^2 - pre*post*threshold",  # Bienenstock, Cooper, Munro 1982, as in Intrator, Cooper 1992
    "delta": "pre*modulator",  # Widrow & Hoff 1960, with modulator = target − output
    "rescorla_wagner": "pre*modulator - pre*potential",  # Rescorla & Wagner 1972, with modulator = US, potential = ΣV
    "three_factor": "pre*post*modulator",  # Frémaux, Gerstner 2016
}

TRACES: dict[str, dict[str, Trace]] = {
    "covariance": {"mean_pre": Trace(of="pre"), "mean_post": Trace(of="post")},
    "bcm": {"threshold": Trace(of="post^2")},
}

FAMILIES: dict[str, tuple[str, ...]] = {
    # The seven terms ascribed to Bengio et al. 1992.
    "seven": ("1", "pre", "potential", "modulator", "pre*modulator", "pre*potential", "pre*weight"),
    # Every product of a subset of the four local variables of Bengio et al. 1992.
    "sixteen": tuple(
        "*".join(name for name, present in zip(("pre", "potential", "modulator", "weight"), subset) if present) or "1"
        for subset in product((False, True), repeat=4)
    ),
}
