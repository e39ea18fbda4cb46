"""Spherical k-means: centroids on the unit sphere, by faiss.

Axes: P points, D dimensions, K clusters.
"""

import faiss
import numpy as np
import torch
from torch import Tensor


def spherical_kmeans(
    points: Tensor,
    clusters: int,
    *,
    random: np.random.Generator,
    iterations: int,
    points_per_cluster: int,
) -> Tensor:
    """Cluster unit vectors.

    Starts from distinct random points; centroids are re-normalised in every iteration; an empty cluster takes over
    half of a large one (faiss' rule). Fitted on at most `points_per_cluster` x K points drawn at random.

    Args:
        points: (P, D) float, unit vectors.
        clusters: K; no more clusters than points are made.
        random: the stream that all choices come from.

    Returns:
        (K, D) unit vectors on the points' device and in their format; computed in float32.

    Raises:
        ValueError: there are no points.
        FloatingPointError: they are not finite.
    """
    if not len(points):
        raise ValueError("no points to cluster")
    clusters = min(clusters, len(points))
    chosen = random.permutation(len(points))[: points_per_cluster * clusters]
    fitted = points[torch.from_numpy(chosen).to(points.device)].float().contiguous().cpu().numpy()
    if not np.isfinite(fitted).all():
        raise FloatingPointError("features that are to be clustered are not finite")
    start = random.choice(len(fitted), clusters, replace=False)

    index: faiss.Index = faiss.IndexFlatIP(fitted.shape[1])
    if points.device.type == "cuda" and faiss.get_num_gpus():
        device = points.device.index or 0
        index = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), device, index)
    clustering = faiss.Clustering(fitted.shape[1], clusters)
    clustering.spherical = True
    clustering.niter = iterations
    clustering.min_points_per_centroid = 1
    clustering.max_points_per_centroid = len(fitted)
    faiss.copy_array_to_vector(np.ascontiguousarray(fitted[start]).ravel(), clustering.centroids)
    clustering.train(fitted, index)
    centroids = faiss.vector_to_array(clustering.centroids).reshape(clusters, -1)
    return torch.from_numpy(centroids.copy()).to(points)
