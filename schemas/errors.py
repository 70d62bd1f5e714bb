"""The errors of zerostock, one tree.

ZerostockError            what a user is told in one clear line; exit code 1
├── UsageError            the call itself is wrong: exit code 2
├── SettingsError         a setting or a secret is missing or malformed
├── InputError            a file or folder is unusable as a whole (a bad line is a dead letter)
│   ├── MappingError      a mapping file does not describe the export it is used on
│   └── NoWarehouse       there is no warehouse in the data directory yet
├── EnvelopeError         bytes on a topic are not an envelope of the kind expected
├── NewerVersion          a newer zerostock wrote this: upgrade, then go on
├── LostState             a worker's state lacks what was committed: rebuild it
├── BusyError             another live process owns the data directory
├── WarehouseError        ClickHouse refused a statement
│   └── WarehouseDown     ClickHouse cannot be reached; trying again may help
├── BrokerError           Kafka cannot be reached or refused
├── SendError             a message was not accepted by the provider
│   ├── SendRefused       it never will be: do not try again
│   └── SendUncertain     it may have been accepted: look it up before trying again
└── BatchError            a batch job could not finish; the previous result stands
"""

from __future__ import annotations


class ZerostockError(Exception):
    """Base of all errors that a user is told about in one clear line."""


class UsageError(ZerostockError):
    """The command was called in a way it cannot serve."""


class SettingsError(ZerostockError):
    """A setting or secret is missing or malformed."""


class InputError(ZerostockError):
    """A file or folder cannot be used at all."""


class MappingError(InputError):
    """A mapping file is wrong, or does not fit the export."""


class NoWarehouse(InputError):
    """There is no warehouse in the data directory yet."""


class EnvelopeError(ZerostockError):
    """Bytes are not an envelope, or not one of the kind expected."""


class NewerVersion(ZerostockError):
    """A newer zerostock wrote what this one was to read; nothing was passed over."""


class LostState(ZerostockError):
    """A worker's state covers less than its group has committed."""


class BusyError(ZerostockError):
    """Another live process owns what this one needs."""


class WarehouseError(ZerostockError):
    """ClickHouse refused a statement."""


class WarehouseDown(WarehouseError):
    """ClickHouse cannot be reached."""


class BrokerError(ZerostockError):
    """Kafka refused."""


class BrokerDown(BrokerError):
    """Kafka cannot be reached."""


class SendError(ZerostockError):
    """A message was not accepted; a later try is safe."""


class SendRefused(SendError):
    """A message will never be accepted for this number or text."""


class SendUncertain(SendError):
    """Nobody knows whether the message was accepted."""


class BatchError(ZerostockError):
    """A batch job could not finish."""
