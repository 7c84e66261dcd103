"""One target under atheris: `python -m tests.fuzz.covered NAME CORPUS [libFuzzer options]`; see __main__."""

import sys

import atheris

with atheris.instrument_imports(include=["pgpool"]):
    from tests.fuzz.targets import TARGETS

if __name__ == "__main__":
    name = sys.argv.pop(1)
    sys.argv[0] = f"{sys.executable} -m tests.fuzz.covered {name}"  # -merge=1 starts itself by this, through a shell
    atheris.Setup(sys.argv, TARGETS[name].run)
    atheris.Fuzz()
