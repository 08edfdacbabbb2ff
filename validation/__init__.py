"""Measures of programs of others, and of the suite itself: `python -m validation COMMAND`.

Load generators and proxies are measured side by side against a synthetic source, the client's
timings against a source that says when it sent each chunk, drivers at one real engine, and the
rule behind the verdicts on comparisons whose answer is known. None of it is a result of the bench.
"""
