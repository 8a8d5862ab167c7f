"""Wrong settings, and the exact sentences that the operator gets."""

import pytest
from typer.testing import CliRunner

from ops.command_line import app
from ops.environment import unknown_settings, wrong_values

RIGHT = {
    "VIDEO_ALLOWED_HOSTS": "a.example, b.example",
    "VIDEO_ALLOWED_PORTS": "any",
    "VIDEO_MAX_BYTES": "",  # empty is unset
    "WORKER_SCRATCH": "/scratch",
    "BUCKET_SECRET_ACCESS_KEY": "s3cret",
    "OMP_NUM_THREADS": "many",  # not ours
}
WRONG = [
    ("WORKER_BATCH_FRAMES", "many", "WORKER_BATCH_FRAMES must be a whole number"),
    ("WORKER_BATCH_FRAMES", "0", "WORKER_BATCH_FRAMES must be at least 1"),
    ("WORKER_TIME_BUDGET_SECONDS", "6h", "WORKER_TIME_BUDGET_SECONDS must be a number"),
    ("WORKER_LOG_LEVEL", "LOUD", "WORKER_LOG_LEVEL must be DEBUG, INFO, WARNING or ERROR"),
    ("VIDEO_MAX_BYTES", "20GB", "VIDEO_MAX_BYTES must be a whole number"),
    ("VIDEO_ALLOW_HTTP", "perhaps", "VIDEO_ALLOW_HTTP must be true or false"),
    ("VIDEO_ALLOWED_PORTS", "https", "VIDEO_ALLOWED_PORTS is not valid: Ports accepted, or `any`"),
    ("MODELS", "offical", "MODELS must be auto, official or lite"),
    ("MODEL_DEVICE", "gpu", "MODEL_DEVICE is not valid: auto, cpu, cuda or cuda:N"),
    (
        "BUCKET_ENDPOINT_URL",
        "s3.example.com",
        'BUCKET_ENDPOINT_URL is not valid; an example: "https://s3.example.com"',
    ),
    ("SERVE_LEASE_SECONDS", "-1", "SERVE_LEASE_SECONDS must be more than 0"),
    (
        "RUNPOD_DEPLOY_URL",
        "http://api.example",
        "RUNPOD_DEPLOY_URL must be https (the API key travels with each request)",
    ),
    ("RUNPOD_DEPLOY_URL", "https://a:b/", "RUNPOD_DEPLOY_URL is not a URL with a host"),
    ("RUNPOD_DEPLOY_URL", "https://[bad/", "RUNPOD_DEPLOY_URL is not a URL with a host"),
]
UNKNOWN = [
    ("VIDEO_MAX_BYTE", "VIDEO_MAX_BYTE is not a setting; did you mean VIDEO_MAX_BYTES?"),
    ("WORKER_BATCH_FRAMSE", "WORKER_BATCH_FRAMSE is not a setting; did you mean WORKER_BATCH_FRAMES?"),
    ("WEIGHTS_MIROR", "WEIGHTS_MIROR is not a setting; did you mean WEIGHTS_MIRROR?"),
    ("VIDEO_READ_SECONDS", "VIDEO_READ_SECONDS is not a setting"),  # a constant
    ("MODEL_DEVICES", "MODEL_DEVICES is not a setting; did you mean MODEL_DEVICE?"),
]


@pytest.mark.parametrize(("name", "value", "sentence"), WRONG)
def test_a_wrong_value_is_told_by_its_name(name: str, value: str, sentence: str):
    """As the operator wrote the name, and without the value, which may be a secret."""
    assert wrong_values({**RIGHT, name: value}) == [sentence]


@pytest.mark.parametrize(("name", "sentence"), UNKNOWN)
def test_a_misspelt_name_is_told(name: str, sentence: str):
    """It would otherwise pass silently; names that are not ours are left alone."""
    foreign = {"MODEL_NAME": "x", "RUNPOD_POD_ID": "x", "HOME": "/", "VIDEO": "x"}
    assert unknown_settings({**RIGHT, **foreign, name: "x"}) == [sentence]


def test_every_command_tells_all_wrong_settings_before_it_begins():
    """One line each, exit status 1, no traceback; what is only unknown is a warning."""
    wrong = {"VIDEO_MAX_BYTE": "1", "WORKER_BATCH_FRAMES": "s3cret", "MODELS": "s3cret"}
    done = CliRunner().invoke(app, ["serve"], env=wrong)

    assert done.exit_code == 1
    assert sorted(done.stderr.splitlines()) == [
        "error: MODELS must be auto, official or lite",
        "error: WORKER_BATCH_FRAMES must be a whole number",
        "warning: VIDEO_MAX_BYTE is not a setting; did you mean VIDEO_MAX_BYTES?",
    ]
