"""Programs that the suite starts: its own and those of others, here and in pods.

The suite's own programs talk over standard input and output (`program`), so that they work in
the same way on this machine (`local`) and in pods. Commands run under a guard (`guarded`).
"""
