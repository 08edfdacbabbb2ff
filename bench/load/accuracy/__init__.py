"""How far the client's timings are off, measured against a synthetic source.

The source is no engine: what it sends says something about programs that read it, such as the
load generator, and is never a result.
"""
