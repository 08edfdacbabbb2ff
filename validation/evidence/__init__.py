"""How often the rule is right: many comparisons whose answer is known.

`make evidence` measures, in as many sittings as it takes, what `ledger` plans, and writes it down
in docs/evidence/. The page and the summary there are made from the ledger.
"""
