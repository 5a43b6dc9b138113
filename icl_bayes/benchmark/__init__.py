"""Methods x data sets x seeds -> records; resume, tables, plots, report, published numbers."""
