"""The steps of each operation as plain functions, without Prefect. Command, flow, task and operation have one name."""
