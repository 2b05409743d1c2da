"""Listening tests: stimuli, pages, answers, statistics. Program: python -m fwn.listening."""
