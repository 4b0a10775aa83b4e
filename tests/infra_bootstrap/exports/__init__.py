"""Tests of infra_bootstrap.exports."""
