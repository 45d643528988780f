"""The site of a leaderboard: a folder of HTML pages that any web server or file system shows.

    index.html                 a table for each suite, with a small script that sorts, filters and compares
    index.json                 the same standings as data
    agents/ID.html             one submission: scores, adaptation, costs, settings, how to reproduce it
    scenarios/SUITE/ID.html    one scenario: parameters, headroom, references, all agents on it, its YAML

`reading` turns submissions into numbers, `ranking` into standings, `charts` draws, `pages` renders and writes.
"""
