"""Measures of programs of others, and of the suite itself: `python -m validation COMMAND`.

None of it is a result of the bench.
"""
