"""Load: when requests arrive, what they ask for, and what became of each of them."""
