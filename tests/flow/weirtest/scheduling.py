# SPDX-License-Identifier: Apache-2.0
"""How the tests of a run are dealt out to its processes: by group, in the order of the list."""
from xdist.scheduler import LoadGroupScheduling


class Scheduling(LoadGroupScheduling):
    """pytest-xdist's own, but for a worker that crashes: what it had done is not dealt out again
    (a worker that is given nothing to do never asks for more), nor the test it crashed in."""

    def remove_node(self, node):
        done = self.assigned_work.pop(node)
        left = {scope: [test for test, ended in unit.items() if not ended]
                for scope, unit in done.items()}
        crashed = next((test for unit in left.values() for test in unit), None)
        if crashed is None:
            return None
        for scope, unit in left.items():
            again = {test: False for test in unit if test != crashed}
            if again:
                self.workqueue[scope] = again
        for other in list(self.assigned_work):
            self._reschedule(other)
        return crashed
