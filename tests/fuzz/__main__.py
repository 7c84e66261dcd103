"""`python -m tests.fuzz TARGET|all|live|keep [--seconds N] [--seed N]`: look for what breaks, for as long as you like.

With atheris installed (`pip install atheris`) the targets of targets.py are driven by coverage, without it by seeded
mutation; what is found stays in --corpus, so that the next run begins there, and `keep` takes the best of it into the
repository. `live` attacks a running pgpool.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import subprocess
import sys
import time
from pathlib import Path

from tests.fuzz.kept import keep, kept
from tests.fuzz.mutate import mutated
from tests.fuzz.targets import TARGETS, Target

CORPUS = Path("build/fuzz")


def by_mutation(name: str, target: Target, seconds: float, seed: int, most: int = 1 << 60) -> int:
    """How many inputs were tried, ``most`` of them at most. The one that failed is printed before the error goes on."""
    dice, end, count = random.Random(f"{name} {seed}"), time.monotonic() + seconds, 0
    seeds = target.seeds + kept(name)
    for data in seeds:
        target.run(data)
    while count < most and time.monotonic() < end:
        data = mutated(dice, seeds, target.words)
        try:
            target.run(data)
        except BaseException:
            print(f"{name}, seed {seed}: {data!r}", file=sys.stderr)
            raise
        count += 1
    return count


def by_coverage(name: str, seconds: int, seed: int, corpus: Path) -> None:
    """One run of atheris, which never returns: in a process of its own."""
    place = corpus / name
    place.mkdir(parents=True, exist_ok=True)
    for data in TARGETS[name].seeds + kept(name):
        (place / hashlib.sha1(data).hexdigest()).write_bytes(data)
    limits = [f"-max_total_time={seconds}", "-max_len=4096", "-timeout=10", "-rss_limit_mb=2048"]
    told = [f"-seed={seed}", f"-artifact_prefix={place}-", "-print_final_stats=1"]
    subprocess.run([sys.executable, "-m", "tests.fuzz.covered", name, str(place), *limits, *told], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", choices=("all", "live", "keep", *TARGETS))
    parser.add_argument("--seconds", type=int, default=60, help="for each target (default 60)")
    parser.add_argument("--seed", type=int, default=random.randrange(1, 1 << 30))
    parser.add_argument("--corpus", type=Path, default=CORPUS)
    opts = parser.parse_args()
    print("seed", opts.seed, flush=True)
    if opts.target == "live":
        from tests.fuzz import live  # needs PostgreSQL

        live.main(opts.seconds, opts.seed)
        return
    if opts.target == "keep":
        for name in TARGETS:
            if (opts.corpus / name).exists():
                print(name, keep(name, opts.corpus), "inputs", flush=True)
        return
    try:
        import atheris  # noqa: F401

        covered = True
    except ImportError:
        covered = False
    for name in TARGETS if opts.target == "all" else (opts.target,):
        if covered and not TARGETS[name].compiled:
            by_coverage(name, opts.seconds, opts.seed, opts.corpus)
        else:
            print(name, by_mutation(name, TARGETS[name], opts.seconds, opts.seed), "inputs", flush=True)


if __name__ == "__main__":
    main()
