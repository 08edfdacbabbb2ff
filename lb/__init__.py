"""Load balancers for replicas that speak the OpenAI API: `python -m lb --help`."""

__version__ = "0.1.0"
