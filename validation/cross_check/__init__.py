"""The drivers and vLLM's own benchmark side by side: one server, the same work, one run.

`python -m validation.cross_check`. Only real vLLM is measured.
"""
