"""What the pages share: the router, cached models and results, widgets, charts."""
