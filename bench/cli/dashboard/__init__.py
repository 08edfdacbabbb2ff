"""`python -m bench dashboard`: stored runs in a browser, and the one that is measured."""
