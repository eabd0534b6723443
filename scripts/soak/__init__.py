"""Thousands of mixed executions in one server: what grows?"""
