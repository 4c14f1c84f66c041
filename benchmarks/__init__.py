"""Studies of metarule: sweeps over settings and seeds, and what runs cost, one command each."""

import metarule  # noqa: F401 - before anything imports JAX, as its own commands do
