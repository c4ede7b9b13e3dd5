"""Measurements that are run by hand. Tests assert no times; some assert what is counted here."""
