"""Fine-tuning with labels: classifiers, detectors and segmenters that start from a pretrained backbone."""
