"""Builds the one compiled unit, pgpool/_fastpath.pyx (parts in pgpool/_fastpath/*.pxi); metadata: pyproject.toml.

Environment switches:
  PGPOOL_DEBUG_BUILD=1  bounds and wraparound checks, assertions, -O1 -g, warnings are errors.
  PGPOOL_WERROR=1       warnings are errors in an optimised build too (tox sets it; a user's newer compiler may know
                        new warnings, so it is not the default).
"""

import os
from glob import glob
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

DEBUG = os.environ.get("PGPOOL_DEBUG_BUILD", "") not in ("", "0")
WERROR = DEBUG or os.environ.get("PGPOOL_WERROR", "") not in ("", "0")

WARNINGS = [
    "-Wall", "-Wextra", "-Wshadow=local", "-Wformat=2", "-Wstrict-prototypes",
    # What Cython's own code needs: type objects cut short, PyCFunction casts, helpers not always used.
    "-Wno-missing-field-initializers", "-Wno-cast-function-type", "-Wno-unused-function",
    # Variables that only left-out assertions use; the debug build has them and warns.
    *([] if DEBUG else ["-Wno-unused-variable"]),
]  # fmt: skip
CHECKS = {"boundscheck": DEBUG, "wraparound": DEBUG, "initializedcheck": DEBUG, "cdivision": not DEBUG}


class BuildExt(build_ext):
    """build_ext which runs Cython, and builds anew when the kind of build (debug, optimised) has changed."""

    def run(self) -> None:
        mark = Path("build") / "fastpath-build-kind"
        kind = f"debug={DEBUG} werror={WERROR}\n"
        if not mark.exists() or mark.read_text() != kind:
            self.force = True
        # Here and not at import, so that asking for metadata or making an sdist compiles nothing.
        for extension in self.extensions:
            directives = {"language_level": 3, **CHECKS}
            compiled = cythonize([extension], compiler_directives=directives, force=bool(self.force))
            extension.sources = compiled[0].sources
        super().run()
        mark.parent.mkdir(exist_ok=True)
        mark.write_text(kind)


def fastpath() -> Extension:
    """The compiled unit; its .pxi parts are dependencies, so that a change of a part builds it anew."""
    return Extension(
        "pgpool._fastpath",
        ["pgpool/_fastpath.pyx"],
        depends=sorted(glob("pgpool/_fastpath/*.pxi")),
        define_macros=[] if DEBUG else [("CYTHON_WITHOUT_ASSERTIONS", "1")],
        undef_macros=["NDEBUG"] if DEBUG else [],
        extra_compile_args=[*(["-O1", "-g"] if DEBUG else ["-O3"]), *WARNINGS, *(["-Werror"] if WERROR else [])],
    )


setup(
    ext_modules=[fastpath()],
    cmdclass={"build_ext": BuildExt},
    # Where an operator looks for samples: PREFIX/share/pgpool.
    data_files=[("share/pgpool", sorted(glob("etc/*.sample*")))],
)
