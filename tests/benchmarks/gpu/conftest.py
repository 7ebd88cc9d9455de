import pytest

from benchmarks.gpu.peer_library import PeerLibrary
from tests.benchmarks.gpu.stand_ins import ATTENTION_STAND_IN, SELECTION_STAND_IN, compile_host


@pytest.fixture(scope="module")
def libraries(tmp_path_factory):
    """Stand-ins of every library of the harness, on host memory."""
    folder = tmp_path_factory.mktemp("stand_ins")
    paths = {
        name: compile_host(
            ATTENTION_STAND_IN, folder / f"{name}.so", "-shared", "-fPIC", f"-DINDEX={index}", f"-DFUSED={fused}"
        )
        for name, index, fused in (
            ("original", "int64_t", "false"),
            ("tensorrt", "int32_t", "false"),
            ("dcnv4", "int64_t", "true"),
        )
    }
    paths["cub"] = compile_host(SELECTION_STAND_IN, folder / "cub.so", "-shared", "-fPIC")
    return {name: PeerLibrary(path) for name, path in paths.items()}
