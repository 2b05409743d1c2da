"""Records the git commit in what is built, in fwn/commit.txt, for `fwn --version`. All else is in setup.cfg."""

import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

sys.path.insert(0, str(Path(__file__).parent))

from fwn import version


def record(package: Path) -> None:
    """Writes the commit into a copy of fwn/. What was there may be a hard link to the checkout's."""
    file = package / version.COMMIT
    file.unlink(missing_ok=True)
    file.write_text(f"{version.commit()}\n", encoding="utf-8")


class Build(build_py):
    def run(self) -> None:
        super().run()
        if not self.editable_mode:  # a checkout's commit changes after this
            record(Path(self.build_lib, "fwn"))


class Source(sdist):
    def make_release_tree(self, base_dir: str, files: list[str]) -> None:
        super().make_release_tree(base_dir, files)
        record(Path(base_dir, "fwn"))


setup(cmdclass={"build_py": Build, "sdist": Source})
