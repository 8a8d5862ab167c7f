"""The settings table of the operations page is today's, and holds every setting."""

from pathlib import Path

import pytest

import handler.settings
import model_cache.settings
import ops.deploy.settings
import ops.endpoint.settings
from handler.settings_table import PAGE, filled_in, settings_classes

ROOT = Path(__file__).parents[2]
CLASSES = settings_classes(handler.settings, model_cache.settings, ops.endpoint.settings, ops.deploy.settings)


def test_the_operations_page_holds_todays_settings():
    """Whoever changes a setting runs `python -m handler schema`."""
    page = (ROOT / PAGE).read_text()

    assert filled_in(page, CLASSES) == page


def test_the_table_names_every_variable_once():
    """Each field of each settings class has its row, under the name the environment uses."""
    page = (ROOT / PAGE).read_text()
    for settings in CLASSES:
        prefix = settings.model_config.get("env_prefix", "")
        for name, info in settings.model_fields.items():
            assert page.count(f"| `{prefix}{name}`".upper()) >= 1
            assert info.description, f"{settings.__name__}.{name} says nothing about itself"


def test_settings_classes_are_found():
    """Classes of the modules themselves count, imported ones do not."""
    names = [kind.__name__ for kind in CLASSES]

    assert "IntakeSettings" in names
    assert "ModelSettings" in names
    assert "BaseSettings" not in names


def test_a_page_without_marks_is_refused():
    """A page that lost its marks is not silently left stale."""
    with pytest.raises(ValueError, match="must hold"):
        filled_in("# Operations", CLASSES)
