"""Puts a Python with the official SDKs and a program into a folder, as the image of an application that knows only them.

    pack_client.py FOLDER PROGRAM

Is run by the Python whose packages are taken. Everything is where it finds itself: below /python, shared libraries where they
are here.
"""

import compileall
import pathlib
import py_compile
import re
import shutil
import subprocess
import sys
import sysconfig

folder, program = map(pathlib.Path, sys.argv[1:])
version = f"python{sys.version_info.major}.{sys.version_info.minor}"
library = folder / "python/lib" / version

# What no application imports, tests and installers above all.
left_out = shutil.ignore_patterns(
    "__pycache__", "site-packages", "dist-packages", "test", "tests", "idlelib", "tkinter", "ensurepip", "lib2to3", "pip",
    "setuptools", "pkg_resources", "pygments", "_pytest", "config-*", "*.a",
)
shutil.copytree(sysconfig.get_path("stdlib"), library, ignore=left_out)
shutil.copytree(sysconfig.get_path("purelib"), folder / "python/sdk", ignore=left_out)
binary = folder / "python/bin/python3"
binary.parent.mkdir()
shutil.copy2(pathlib.Path(sys.executable).resolve(), binary)
shutil.copy2(program, folder / "application.py")

# An image has times of its own, by which compiled files would be taken for old ones.
unchecked = py_compile.PycInvalidationMode.UNCHECKED_HASH
compileall.compile_dir(folder / "python", quiet=2, invalidation_mode=unchecked)

for needing in [binary, *folder.rglob("*.so")]:
    said = subprocess.run(["ldd", needing], capture_output=True, text=True).stdout
    for needed in re.findall(r"(/\S+) \(0x", said):
        place = folder / needed.lstrip("/")
        if not place.exists() and folder not in pathlib.Path(needed).parents:
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(pathlib.Path(needed).resolve(), place)
