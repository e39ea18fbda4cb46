"""The method's tests work on small tensors."""

from collections.abc import Iterator

import faiss
import pytest
import torch


@pytest.fixture(scope="package", autouse=True)
def _one_thread() -> Iterator[None]:
    """More threads cost more than they give here, and wait for each other on a busy machine."""
    threads, of_faiss = torch.get_num_threads(), faiss.omp_get_max_threads()
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    faiss.omp_set_num_threads(of_faiss)
