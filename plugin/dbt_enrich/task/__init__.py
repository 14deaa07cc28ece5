"""What to ask and what comes back: task, options, template, types, schema, kinds of failure."""
