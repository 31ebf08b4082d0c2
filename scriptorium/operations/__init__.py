"""The steps of each operation as plain functions, without Prefect: the same word on every floor."""
