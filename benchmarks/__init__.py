"""Studies of metarule: sweeps over seeds and settings, and what they are measured against."""
