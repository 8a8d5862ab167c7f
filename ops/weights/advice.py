"""What an operator can do about a file that is not there, in words. Knows nothing of what is there."""

from model_cache.store.manifest import FETCH, OfficialFile


def how_to_get(file: OfficialFile) -> str:
    """A sentence for a file that could not be fetched."""
    if file.operator_only:
        return how_to_get_smpl(file)
    return f"It comes from {file.origin}. From elsewhere: `{setting(file)}=URL-or-path {FETCH}`"


def how_to_get_smpl(file: OfficialFile) -> str:
    """The way to a file that only the operator may supply."""
    names = ", ".join((file.name, *file.aliases))
    site, licence = file.origin.partition(" ")[0], file.licence.rpartition(" ")[2]
    return (
        f"{file.name} is yours to supply, its licence lets nobody pass it on: register at {site}, read "
        f"{licence}, download the neutral model ({names}; the site's zip will do), then run "
        f"`{setting(file)}=/path/to/it {FETCH}`"
    )


def setting(file: OfficialFile) -> str:
    """The variable that replaces a file's source."""
    return f"WEIGHTS_{file.role.upper()}"
