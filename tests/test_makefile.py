"""The Makefile's virtual environments, with a stand-in for Python."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
PYTHON = """\
#!/bin/sh
# Makes environments as Debian's Python does: without pip, and with an error, where python3-venv is not installed.
echo "$@" >> calls
test "$1 $2" = "-m venv" || exit 0
for folder; do :; done
test "$3" = --clear && rm -rf "$folder"
mkdir -p "$folder/bin"
printf '#!/bin/sh\\ntest -x "$(dirname "$0")/pip"\\n' > "$folder/bin/python"
chmod +x "$folder/bin/python"
test -e python3-venv || exit 1
printf '#!/bin/sh\\necho "$@" >> pip-calls\\n' > "$folder/bin/pip"
chmod +x "$folder/bin/pip"
"""

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    shutil.copy(REPOSITORY / "Makefile", tmp_path)
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "requirements.txt").touch()
    (tmp_path / "python").write_text(PYTHON)
    (tmp_path / "python").chmod(0o755)
    return tmp_path


def make(project: Path, target: str) -> bool:
    done = subprocess.run(["make", "-C", project, target, "PYTHON=./python"], capture_output=True, text=True)
    return done.returncode == 0


@pytest.mark.parametrize("venv", [".venv", "benchmarks/.venv"])
def test_half_made_environment_is_made_anew(project: Path, venv: str) -> None:
    target = f"{venv}/.installed"
    assert not make(project, target)
    assert (project / venv / "bin" / "python").exists()
    assert not (project / venv / "bin" / "pip").exists()
    (project / venv / "rest").touch()
    (project / "python3-venv").touch()
    assert make(project, target)
    assert (project / target).exists()
    assert not (project / venv / "rest").exists()
    assert "install" in (project / "pip-calls").read_text()


@pytest.mark.parametrize("venv", [".venv", "benchmarks/.venv"])
def test_whole_environment_is_left_as_it_is(project: Path, venv: str) -> None:
    (project / "python3-venv").touch()
    assert make(project, f"{venv}/.installed")
    made = (project / "calls").read_text().count("-m venv")
    assert made == 1
    (project / venv / "mine").touch()
    (project / venv / ".made").unlink()  # as an older Makefile left it
    assert make(project, f"{venv}/.installed")
    assert (project / venv / "mine").exists()
    assert (project / "calls").read_text().count("-m venv") == made
