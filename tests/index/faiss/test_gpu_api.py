"""Every name that the GPU code takes from faiss exists in the wheel at hand.

The names are read from the source. GPU wheels import on machines without a GPU, so this needs
the wheel and the CUDA libraries it depends on, but no device.
"""

import ast
import inspect

import pytest

from ragkit.index.faiss import gpu, probe


def parts_of_gpu_code():
    for module in (gpu, probe):
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            if isinstance(node, ast.FunctionDef):
                yield node


def is_faiss(node):
    """Whether an expression is the module faiss: the name, or a call of `load`."""
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id == "load"
    return isinstance(node, ast.Name) and node.id == "faiss"


def used_names():
    """Names looked up in faiss."""
    return sorted(
        {
            node.attr
            for part in parts_of_gpu_code()
            for node in ast.walk(part)
            if isinstance(node, ast.Attribute) and is_faiss(node.value)
        }
    )


def used_attributes():
    """`(class, attribute)` of objects that a function makes from a faiss class and then uses."""
    found = set()
    for part in parts_of_gpu_code():
        made = {
            node.targets[0].id: node.value.func.attr
            for node in ast.walk(part)
            if isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and isinstance(node.value, ast.Call)
            and isinstance(node.value.func, ast.Attribute)
            and is_faiss(node.value.func.value)
        }
        found |= {
            (made[node.value.id], node.attr)
            for node in ast.walk(part)
            if isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id in made
        }
    return sorted(found)


@pytest.fixture(scope="module")
def faiss_gpu():
    faiss = pytest.importorskip("faiss")
    if not hasattr(faiss, "StandardGpuResources"):
        pytest.skip("the installed faiss has no GPU code")
    return faiss


def skip_if_cuvs_only(faiss, name):
    if name in gpu.CUVS_ONLY and "NVIDIA_CUVS" not in faiss.get_compile_options():
        pytest.skip("only in the wheel with cuVS")


def test_names_are_found_in_the_source():
    assert {"index_cpu_to_gpu", "index_gpu_to_cpu", "GpuIndexCagra"} <= set(used_names())
    assert ("GpuMultipleClonerOptions", "shard") in used_attributes()
    assert ("GpuIndexCagraConfig", "graph_degree") in used_attributes()
    assert set(used_names()) >= gpu.CUVS_ONLY


@pytest.mark.parametrize("name", used_names())
def test_name_exists(name, faiss_gpu):
    skip_if_cuvs_only(faiss_gpu, name)

    assert hasattr(faiss_gpu, name)


@pytest.mark.parametrize(("kind", "attribute"), used_attributes())
def test_attribute_exists(kind, attribute, faiss_gpu):
    skip_if_cuvs_only(faiss_gpu, kind)
    made = getattr(faiss_gpu, kind)
    if isinstance(made, type):
        assert hasattr(made, attribute)
