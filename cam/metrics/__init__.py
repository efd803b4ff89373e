"""How good an explanation is: metrics of heatmaps, one family a file, one value an image."""
