"""One target under atheris: `python -m tests.fuzz.covered NAME CORPUS [libFuzzer options]`; see __main__."""

import sys

import atheris

with atheris.instrument_imports(include=["pgpool"]):
    from tests.fuzz.targets import TARGETS

if __name__ == "__main__":
    name = sys.argv.pop(1)
    atheris.Setup(sys.argv, TARGETS[name].run)
    atheris.Fuzz()
