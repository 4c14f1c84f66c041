"""Inference of rules from recordings: which terms, how sure, and whether recordings determine them."""
