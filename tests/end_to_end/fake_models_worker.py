"""The real worker with every real stage; only the networks are fakes that see coloured rectangles.

FAKE_SECONDS_PER_BATCH makes perception take its time.
"""

import os
import time

from handler.settings import Settings
from handler.worker import start
from tests.fakes import FakeModels, FakePerception

SECONDS_PER_BATCH = float(os.environ.get("FAKE_SECONDS_PER_BATCH", "0"))  # noqa: TID251 - of the tests only

if __name__ == "__main__":
    perception = FakePerception(before=lambda _: time.sleep(SECONDS_PER_BATCH))  # as networks do
    start(lambda: FakeModels(perception=perception), Settings())
