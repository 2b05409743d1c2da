"""Compiles programs for devices that are not there, and calculates what they need. Its program is fwn.plan."""
