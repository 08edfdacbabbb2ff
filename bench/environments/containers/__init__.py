"""What environments that run containers have in common: images, engines, generated files, turns."""
