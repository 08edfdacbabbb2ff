"""`python -m validation.load_generators`: what load generators cost, side by side, against one source.

It measures load generators only. No engine runs, and nothing here says how a model is served.
"""
