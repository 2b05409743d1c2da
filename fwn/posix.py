"""What fwn needs of the operating system: that of POSIX. Linux and macOS have it; on Windows, WSL 2 does.

File locks (fcntl), the memory of a process (resource, sysconf), and signals (SIGALRM) are used where they are needed,
not imported at the top of files. So everything can be imported on Windows, and `require` says why it is not run.
"""

import sys
from importlib.util import find_spec

from fwn.errors import UserError


def require() -> None:
    """Raises UserError on Windows, and wherever else there are no file locks of POSIX."""
    if sys.platform == "win32" or find_spec("fcntl") is None:
        raise UserError(
            f"fwn does not run on this system ({sys.platform}), which has no file locks of POSIX (Python's fcntl); on "
            "Windows run it in WSL 2: `wsl --install`, and install fwn there"
        )
