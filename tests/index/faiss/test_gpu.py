import numpy as np
import pytest

from ragkit.errors import ConfigError
from ragkit.index.exact import search_exact
from ragkit.index.faiss.ann import AnnIndex
from ragkit.index.faiss.gpu import join
from ragkit.index.faiss.probe import resolve_device
from ragkit.index.faiss.structure import make_index
from ragkit.index.vectors import Vectors

DIM, ROWS = 32, 20_000


@pytest.fixture(scope="module")
def vectors():
    rng = np.random.default_rng(0)
    values = rng.standard_normal((ROWS, 8)) @ rng.standard_normal((8, DIM))
    return Vectors((values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32))


@pytest.mark.parametrize("factory", ["Flat", "IVF16,Flat", "IVF16,SQ8", "PCA16,IVF16,Flat"])
def test_joined_parts_are_the_index_of_all_rows(factory, vectors):
    import faiss

    empty = make_index(factory, DIM, metric="ip")
    empty.train(vectors.read(0, 1_000))
    whole = faiss.clone_index(empty)
    whole.add(vectors.read(0, 999))
    parts = [faiss.clone_index(empty) for _ in range(3)]
    for part, (start, stop) in zip(parts, [(0, 100), (100, 500), (500, 999)], strict=True):
        part.add(vectors.read(start, stop))

    joined = join(parts, by_list="IVF" in factory)

    queries = vectors.read(0, 50)
    found, expected = [AnnIndex(index).search(queries, k=5)[1] for index in (joined, whole)]
    assert joined.ntotal == 999
    np.testing.assert_array_equal(found, expected)


@pytest.mark.gpu
@pytest.mark.parametrize("device", ["cuda", "cuvs"])
@pytest.mark.parametrize(
    ("factory", "params"),
    [
        ("Flat", {}),
        ("IVF64,Flat", {"nprobe": 64}),
        ("IVF64,SQ8", {"nprobe": 64, "refine_factor": 4}),
        ("IVF64,PQ16", {"nprobe": 64, "refine_factor": 32}),
        ("IVF64,PQ16x4fs", {"nprobe": 64, "refine_factor": 64}),
        ("HNSW32", {"efSearch": 200}),
    ],
)
def test_index_built_on_a_gpu_is_searched_on_the_cpu(factory, params, device, vectors, tmp_path):
    if device == "cuvs":
        faiss = pytest.importorskip("faiss")
        if "NVIDIA_CUVS" not in faiss.get_compile_options():
            pytest.skip("this wheel has no cuVS")
    elif factory == "HNSW32":
        pytest.skip("graphs need cuVS")
    ann = AnnIndex.build(factory, vectors, metric="ip", seed=0, device=device)
    with (tmp_path / "ann").open("wb") as file:
        ann.write(file)
    queries = vectors.read(0, 200)

    rows = AnnIndex.open(tmp_path / "ann", expect_rows=ROWS).search(
        queries, k=10, params=params, vectors=vectors
    )[1]

    truth = search_exact(vectors, queries, k=10, metric="ip")[1]
    recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(rows, truth, strict=True)])
    assert recall > 0.95


@pytest.mark.gpu
def test_graph_without_cuvs_is_refused(vectors):
    with pytest.raises(ConfigError, match="use HNSW32 with the faiss device cuvs"):
        AnnIndex.build("HNSW32", vectors, metric="ip", seed=0, device="cuda")


@pytest.mark.gpu
def test_build_on_a_gpu_cannot_be_deterministic(vectors):
    with pytest.raises(ConfigError, match="use the faiss device cpu"):
        AnnIndex.build("Flat", vectors, metric="ip", seed=0, device="cuda", deterministic=True)


@pytest.mark.gpu
def test_auto_takes_the_gpu():
    assert resolve_device("auto") is not None
