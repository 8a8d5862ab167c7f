"""What can go wrong with loaded models and their weight files; `handler` gives it error codes."""


class ModelError(Exception):
    """Base of everything `model_cache` raises on purpose."""


class WeightsMissing(ModelError):
    """A file that the chosen engine needs is not there; the message says which and where to get it."""


class WeightsInvalid(ModelError):
    """A file is there, but it is not what it should be (wrong hash, wrong keys, wrong kind)."""


class EngineMissing(ModelError):
    """The GPU or a package that the settings ask for is missing or does not fit; the message says which."""


class UnknownModel(ModelError):
    """A setting names a model that is neither registered nor can be imported; the message says which are."""


class StoreUnavailable(ModelError):
    """The store cannot be written: no room, no right, or another process is at it; the message says which."""


class DeviceOutOfMemory(ModelError):
    """The device has no memory left. Perception then halves its batch; one frame alone must fit."""


class DeviceFault(ModelError):
    """The device failed in a way that stays until the process ends (a sticky CUDA error)."""


class ModelOutputInvalid(ModelError):
    """A network gave numbers that are not finite, or an array of the wrong shape; the message says which."""
