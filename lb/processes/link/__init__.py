"""What the control plane and the workers tell each other: lines of JSON on a unix socket.

Workers are told the facts of every replica, at first all and then what is new, and tell
whom they have lost. Asked for their counts, they answer. Either side may be started again:
workers go on with what they know, and come back.
"""

from lb.processes.link.hub import Hub
from lb.processes.link.spoke import Spoke

__all__ = ["Hub", "Spoke"]
