"""Environment `docker`: engines and balancers in containers of this machine, by Docker Compose."""
