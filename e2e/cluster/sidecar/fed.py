"""Says of whom a data plane holds host keys, relay keys and credentials.

    fed.py TABLE CREDENTIALS
"""

import json
import sys

table, credentials = (json.load(open(path)) for path in sys.argv[1:])


def names(objects):
    return ", ".join(sorted(objects)) or "none"


print(f"host keys: {names(table['hostKeys'])}; relay keys: {names(table['relayKeys'])}; credentials: {names(credentials)}")
