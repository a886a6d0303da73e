"""The package list: compiler/, runtime/ and frontends/ are installed as kerogen.compiler and so on (rest: pyproject.toml).

pyproject.toml can't discover packages under another name, and a list kept by hand drops a forgotten one from the wheel in
silence. The links in kerogen/ are for checkouts only; nothing here follows them, so a checkout without links builds the same.
"""

from setuptools import find_packages, setup

ROOTS = ("compiler", "runtime", "frontends")

links = [pattern for root in ROOTS for pattern in (root, f"{root}.*")]
package_dir = {"kerogen": "kerogen"} | {f"kerogen.{root}": root for root in ROOTS}
packages = ["kerogen", *(f"kerogen.{package}" for package in find_packages("kerogen", exclude=links))]
for root in ROOTS:
    packages += [f"kerogen.{root}", *(f"kerogen.{root}.{package}" for package in find_packages(root))]

setup(packages=packages, package_dir=package_dir)
