"""How often the rule is right: many comparisons of which the answer is known.

`make evidence` measures, in as many sittings as it takes, what `plan` lists and writes it down
in docs/evidence/; everything there is made from that ledger.
"""
