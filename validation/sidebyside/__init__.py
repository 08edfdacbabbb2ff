"""Programs measured side by side in front of, or against, one synthetic source.

What such measurements have in common: the source, rounds in an alternating order, CPU time
from /proc, medians with their range, the table. No engine runs in any of them.
"""
