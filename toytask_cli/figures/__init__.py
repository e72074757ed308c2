"""Pictures from reports; knows no model and no file. Each function gives a matplotlib Figure."""
