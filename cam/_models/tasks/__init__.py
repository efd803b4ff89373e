"""Hold what models of other tasks than classification answer."""
