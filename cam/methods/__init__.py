"""Attribution methods: one file a family, each method a small function and what it needs."""
