"""OpenVINO without its telemetry; the only place that imports it.

As installed, OpenVINO reports to Google Analytics when it is imported and whenever it converts a model. Where its
package for that cannot be imported, it uses a stand-in that does nothing.
"""

from __future__ import annotations

import sys

# Not if it is loaded already: then the program around us uses OpenVINO itself, and has decided.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None: an import of it fails

import openvino as ov  # noqa: E402  not before the line above
from openvino import opset13 as ops  # noqa: E402

__all__ = ["ops", "ov"]
