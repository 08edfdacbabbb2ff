"""`python -m validation fuzz`: property tests of parsers, driven by coverage."""
