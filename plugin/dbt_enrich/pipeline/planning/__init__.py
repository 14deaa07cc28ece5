"""Before anything is sent: plan, preview, budget, versions of a task."""
