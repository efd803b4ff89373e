"""Read what segmenters return as scores of classes at pixels."""
