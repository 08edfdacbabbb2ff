"""What engines on CPUs are given, wherever they run: model folders, flags, variables.

The engine's image makes its model folders with this package and vLLM's own dependencies:
nothing here needs more than pydantic, PyYAML and tokenizers.
"""
