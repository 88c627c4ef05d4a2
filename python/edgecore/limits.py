"""Every named limit of the Python layer, with its unit in its name.

A limit is checked before memory is allocated for what it bounds. Limits of byte formats are in
their format pages and C++ headers.
"""

from __future__ import annotations

SCHEMA_FIELDS_MAX = 256
SCHEMA_BYTES_MAX = 64 * 1024
NAME_BYTES_MAX = 23  # map keys: cbor2's canonical order and RFC 8949 §4.2.1 agree below 24 bytes
STREAM_NAME_BYTES_MAX = 64
TEXT_VALUE_BYTES_MAX = 64 * 1024
BINDING_SLOTS_MAX = 4096
BINDING_BYTES_MAX = 1024 * 1024
