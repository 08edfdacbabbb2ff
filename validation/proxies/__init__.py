"""`python -m validation.proxies`: what proxies cost, side by side, in front of a synthetic source.

It measures proxies only. No engine runs, and nothing here says how a model is served.
"""
