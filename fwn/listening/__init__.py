"""The listening test: stimuli, pages, answers and their statistics. The program is python -m fwn.listening."""
