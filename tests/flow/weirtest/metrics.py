# SPDX-License-Identifier: Apache-2.0
"""The text of /metrics as numbers."""
import re

_LINE = re.compile(r'^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)(?: \d+)?$')
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"(?:,|$)')
_ESCAPES = {"\\n": "\n", '\\"': '"', "\\\\": "\\"}


def _labels(text):
    found, end = {}, 0
    for match in _LABEL.finditer(text):
        assert match.start() == end, f"malformed labels: {text!r}"
        found[match[1]] = re.sub(r'\\[n"\\]', lambda m: _ESCAPES[m[0]], match[2])
        end = match.end()
    assert end == len(text), f"malformed labels: {text!r}"
    return found


class Metrics:
    """One scrape. `series` is a list of (name, labels, value).

    m.get("weir_component_sent_events_total", component="store")   sum of what matches, 0 if none
    "weir_build_info" in m
    """

    def __init__(self, text):
        self.text = text
        self.types = {}
        self.series = []
        for line in text.splitlines():
            if line.startswith("# TYPE "):
                _, _, name, kind = line.split(" ", 3)
                self.types[name] = kind
            elif line and not line.startswith("#"):
                match = _LINE.match(line)
                assert match, f"malformed line in /metrics: {line!r}"
                self.series.append((match[1], _labels(match[2] or ""), float(match[3])))

    def matching(self, name, **labels):
        return [s for s in self.series
                if s[0] == name and all(s[1].get(k) == v for k, v in labels.items())]

    def get(self, name, **labels):
        return sum(value for _, _, value in self.matching(name, **labels))

    def __contains__(self, name):
        return any(s[0] == name for s in self.series)

    def __repr__(self):
        return self.text
