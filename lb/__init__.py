"""Load balancers for replicas that speak the OpenAI API: `python -m lb --help`."""
