"""Loopback stand-ins for the services the pipeline talks to."""
