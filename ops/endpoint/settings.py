"""Which URLs callers of the endpoint on one machine may give, of videos and of webhooks. Knows no network."""

from handler.settings import IntakeSettings


class LocalIntakeSettings(IntakeSettings):
    """A worker's settings, open to this machine: the store beside the endpoint speaks http on a high port."""

    allow_http: bool = True
    allow_private_addresses: bool = True
    allowed_ports: tuple[int, ...] = ()
