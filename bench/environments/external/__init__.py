"""Environment `external`: endpoints that exist already."""
