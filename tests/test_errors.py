import pytest

from ragkit import errors
from ragkit.errors import IndexStateError, RagkitError

EXIT_CODES = {
    "CheckpointError": 2,
    "ConfigError": 2,
    "DataError": 3,
    "HubError": 9,
    "IndexCorruptError": 5,
    "IndexLockedError": 8,
    "IndexStateError": 4,
    "MissingDependencyError": 2,
    "ModelMismatchError": 4,
    "RagkitError": 1,
    "DivergedError": 1,
    "RecallError": 7,
    "ShapeError": 2,
    "StorageError": 6,
}


def defined_errors():
    return {
        name: value
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, Exception)
    }


def test_every_error_has_the_exit_code_that_scripts_rely_on():
    assert {name: error.exit_code for name, error in defined_errors().items()} == EXIT_CODES


def test_one_except_clause_catches_every_error():
    assert all(issubclass(error, RagkitError) for error in defined_errors().values())


@pytest.mark.parametrize(
    ("name", "builtin"),
    [
        ("ConfigError", ValueError),
        ("ShapeError", ValueError),
        ("DataError", ValueError),
        ("MissingDependencyError", ImportError),
        ("StorageError", OSError),
        ("HubError", OSError),
    ],
)
def test_callers_can_catch_the_builtin_kind(name, builtin):
    with pytest.raises(builtin, match="what to do"):
        raise defined_errors()[name]("what to do")


@pytest.mark.parametrize(
    "name", ["IndexCorruptError", "IndexLockedError", "ModelMismatchError", "RecallError"]
)
def test_the_kinds_of_a_bad_index_are_index_state_errors(name):
    assert issubclass(defined_errors()[name], IndexStateError)
