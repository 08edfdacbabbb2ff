"""The study: every policy and every peer against managed, over the scenarios."""
