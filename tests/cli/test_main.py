"""``python -m tunelab`` is the command, too."""

import subprocess
import sys


def test_the_module_is_the_command() -> None:
    asked = subprocess.run([sys.executable, "-m", "tunelab", "--help"], capture_output=True, text=True, check=True)
    assert "Usage: python -m tunelab " in asked.stdout
    unknown = [sys.executable, "-m", "tunelab", "models", "show", "none"]
    refused = subprocess.run(unknown, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: no model bundle named 'none'")
