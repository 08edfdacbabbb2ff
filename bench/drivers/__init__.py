"""What sends the load: the built-in client, the openai SDK, or another tool."""

from bench.drivers.driver import Driven, Driver
from bench.drivers.named import DRIVERS, make_driver

__all__ = ["DRIVERS", "Driven", "Driver", "make_driver"]
