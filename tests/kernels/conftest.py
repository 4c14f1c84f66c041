import pytest


@pytest.fixture(autouse=True)
def kernels_as_for_users(with_kernels):
    """Tests choose another mode where they need one."""
