"""Writes what the runs of a suite cost to `scenarios/suites/costs.json`, from the timings of a results folder.

A developer tool. Run it from the root of the repository after a bench on a quiet machine:

    python -m tools.write_costs runs/quick
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from mrl_bench.runs.cost import seconds_per_run
from mrl_bench.runs.files import write_atomically
from mrl_bench.runs.manifest import read_manifest
from mrl_bench.runs.store import Store
from mrl_bench.scenario.suite import suites_dir


def main(folder: Path) -> None:
    manifest = read_manifest(folder)
    runs = [
        {"scenario": scenario, "agent": agent, "seconds": round(seconds, 1)}
        for (scenario, agent), seconds in sorted(seconds_per_run(Store(folder)).items())
    ]
    path = suites_dir() / "costs.json"
    costs = json.loads(path.read_bytes()) if path.is_file() else {}
    costs[manifest["suite"]] = {"where": f"{manifest['machine']}, {manifest['created'][:10]}", "runs": runs}
    write_atomically(path, (json.dumps(costs, indent=1, sort_keys=True) + "\n").encode())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
