"""Which figures of a protocol stand for it, where there is no room for all."""

MAIN: dict[str, tuple[str, ...]] = {
    "region-linear": ("accuracy",),
    "voc07-svm": ("map",),
    "cocostuff-linear": ("miou",),
    "knn": ("accuracy_10",),
    "imagenet-semi": ("top1",),
    "voc-detection": ("box_ap",),
    "coco-instance": ("box_ap", "mask_ap"),
    "lvis-instance": ("box_ap", "mask_ap"),
    "cityscapes-fcn": ("miou",),
    "cocostuff-fcn": ("miou",),
}
"""Protocol that learns from labels -> the figures that are drawn over their share."""
_BOXES, _MASKS = (tuple(f"{kind}_ap{iou}" for iou in ("", "50", "75")) for kind in ("box", "mask"))
_SHOWN: dict[str, tuple[str, ...]] = {
    "mask-quality": ("best_iou", "covering", "boundary_f"),
    "region-linear": ("accuracy", "macro_f1"),
    "imagenet-semi": ("top1", "top5"),
    "voc-detection": _BOXES,
    "coco-instance": (*_BOXES, *_MASKS),
    "lvis-instance": (*_BOXES, *_MASKS),
}
"""Protocol -> the figures that tables show, where these are others: the columns of the paper's tables."""


def main_figures(protocol: str) -> tuple[str, ...]:
    """Names of the figures that tables and the report show, the first before all."""
    return _SHOWN.get(protocol) or MAIN.get(protocol, ())
