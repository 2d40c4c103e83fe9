"""What the environments of all problems share."""

from __future__ import annotations

from typing import Any

import numpy as np

METADATA: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 4}

Begun = tuple[np.ndarray, dict[str, Any]]
"""What `reset` returns: observation and info."""

Stepped = tuple[np.ndarray, float, bool, bool, dict[str, Any]]
"""What `step` returns: observation, reward, whether the episode ended, whether it was cut short, info."""
