"""Mutations that change no result, each with the reason: (file, line before, line after)."""

_KMEANS, _BOOTSTRAP = "cyborgs/clustering/spherical_kmeans.py", "cyborgs/clustering/bootstrap.py"
_MASK, _VMF, _STEP = "cyborgs/losses/mask_contrastive.py", "cyborgs/losses/vmf.py", "cyborgs/training/vmf_step.py"
_LABELS = "cyborgs/regions/label_grid.py"

_REPEATS = "repeats = (regions.unsqueeze(2) == regions.unsqueeze(1)).sum(dim={}).flatten()"
_LOGGED = "return MaskLoss(loss, positives.mean(), (positives == 0).float().mean(), same_id / negatives.clamp(min={}))"
_SQUARES = "return (prototypes[clusters] - features).square().sum(dim={})"
_FEWEST = "clustering.min_points_per_centroid = {}"
_GRID = "height, width = clustered[{}].shape[1:3]"
_RESHAPED = "centroids = faiss.vector_to_array(clustering.centroids).reshape(clusters, -{})"

EQUIVALENT: dict[tuple[str, str, str], str] = {
    (_MASK, _REPEATS.format(2), _REPEATS.format(1)): "a comparison of all with all is symmetric",
    (_MASK, _LOGGED.format(1), _LOGGED.format(2)): "where there is one negative, its id is another: 0 by 1 or by 2",
    (_VMF, _SQUARES.format(-1), _SQUARES.format(1)): "the last of two dimensions",
    (_BOOTSTRAP, "if longer <= max_side:", "if longer < max_side:"): "at the limit the size is multiplied by 1",
    (_KMEANS, _FEWEST.format(1), _FEWEST.format(2)): "faiss prints a warning below it and goes on",
    (_KMEANS, _FEWEST.format(1), _FEWEST.format(0)): "faiss prints a warning below it and goes on",
    (_KMEANS, _FEWEST.format(1), "pass"): "faiss prints a warning below it and goes on",
    (_KMEANS, _RESHAPED.format(1), _RESHAPED.format(2)): "numpy takes any negative number for the one to work out",
    (_LABELS, "LABELS = 256", "LABELS = 257"): "one more label that no map has",
    (_STEP, _GRID.format(0), _GRID.format(1)): "both views have the same grid",
    (_STEP, _GRID.format(0), _GRID.format(-1)): "both views have the same grid",
}
