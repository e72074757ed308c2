"""Pictures from reports. Each function returns a matplotlib Figure; none imports torch."""
