import pytest
from matplotlib import rcParams

from ragkit.errors import StorageError
from ragkit.training.plots import plot_run

METRICS = [{"num_tokens": 10 * i, "loss_nats": 5 - i} for i in range(4)]
EVALUATIONS = [{"num_tokens": 20, "loss_nats": 3.5, "bits_per_byte": 1.5}]


@pytest.mark.parametrize("evaluations", [[], EVALUATIONS, [{"num_tokens": 20, "loss_nats": 3.5}]])
def test_a_picture_is_drawn_without_touching_what_others_draw(tmp_path, evaluations):
    before = dict(rcParams)

    plot_run(tmp_path / "loss.png", METRICS, evaluations)

    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert dict(rcParams) == before


def test_a_folder_that_is_not_there_is_a_storage_error(tmp_path):
    with pytest.raises(StorageError, match="check the path"):
        plot_run(tmp_path / "none" / "loss.png", METRICS, [])
