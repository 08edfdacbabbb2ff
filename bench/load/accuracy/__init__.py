"""How far the client's timings are off, measured against a source that tells its own.

The source is no engine: what it says is about the instrument, and never a result.
"""
