"""What the replicas say of themselves while they are measured: their /metrics, over time."""

from bench.scraping.scraper import Scraper, scraping

__all__ = ["Scraper", "scraping"]
