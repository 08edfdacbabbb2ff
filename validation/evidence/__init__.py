"""How often the rule is right: many comparisons whose answer is known."""
