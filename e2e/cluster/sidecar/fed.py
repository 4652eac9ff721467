"""Says of whom a data plane holds host keys, credentials that it can use, and relay keys.

    fed.py TABLE CREDENTIALS
"""

import json
import sys

table, credentials = (json.load(open(path)) for path in sys.argv[1:])
usable = [name for name, standing in credentials["hostKeys"].items() if standing["usable"]]


def names(objects):
    return ", ".join(sorted(objects)) or "none"


print(f"host keys: {names(table['hostKeys'])}; credentials: {names(usable)}; relay keys: {names(table['relayKeys'])}")
