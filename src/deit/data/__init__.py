"""Images in, batches out: sources, order, views, mixing."""
