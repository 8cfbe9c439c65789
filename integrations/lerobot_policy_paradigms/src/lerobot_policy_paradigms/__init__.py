"""LeRobot's diffusion and flow policies in parallel in time, switched on by an environment variable.

    PARADIGMS_LEROBOT=1 lerobot-eval ...                       the defaults
    PARADIGMS_LEROBOT='window=16 tolerance=0.01' lerobot-eval ...

LeRobot imports distributions whose names begin with lerobot_policy_ when its programs start.
"""

from .hooks import install, uninstall
from .settings import Settings

__all__ = ["Settings", "install", "uninstall"]

if (how := Settings.from_environment()) is not None:
    install(how)
