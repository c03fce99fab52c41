# Needs only python3 (3.11 or 3.12) with venv; everything else goes into .venv.
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
WORK := .work

.PHONY: install install-dev bench test lint clean
