"""Studies of metarule: sweeps over settings and seeds, and what runs cost, one command each."""
