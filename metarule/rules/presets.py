"""Named points and families of the polynomial rule, as text in its term language.

A *rule* is a sum of monomials under one coefficient; a *family* is a list of terms, each with a coefficient of its
own. Both names may stand wherever a term may.
"""

from itertools import product

__all__ = ["FAMILIES", "RULES"]

RULES: dict[str, str] = {
    "hebb": "pre*post",  # Hebb 1949
    "oja": "pre*post - post^2*weight",  # Oja 1982, eq. 3
    "delta": "pre*modulator",  # Widrow & Hoff 1960, with modulator = target − output
}

FAMILIES: dict[str, tuple[str, ...]] = {
    # The seven terms ascribed to Bengio et al. 1992.
    "seven": (
        "1",
        "pre",
        "potential",
        "modulator",
        "pre*modulator",
        "pre*potential",
        "pre*weight",
    ),
    # Every product of a subset of the four local variables of Bengio et al. 1992.
    "sixteen": tuple(
        "*".join(name for name, present in zip(("pre", "potential", "modulator", "weight"), subset) if present) or "1"
        for subset in product((False, True), repeat=4)
    ),
}
