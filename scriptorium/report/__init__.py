"""Results for people and programs: JSON documents, table rows, reports in Markdown."""
