"""The Faust applications: thin agents around `pipelines.core`."""
